/**
 * A host that boots while its datastore cannot be reached: the last known policy is in force before anything is asked, and
 * what has changed meanwhile comes as soon as the datastore is back. An agent that only starts again leaves the kernel alone.
 */
import assert from "node:assert/strict";
import type { Host } from "../lab/host.ts";
import { makeOverlay, type Overlay } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";

const tcp = (action: string, port: number) => ({ action, protocol: "TCP", destination: { ports: [port] } });
const policy = (...ingress: object[]) => ({ selector: "is == 'host'", ingress, egress: [{ action: "Allow" }] });

/** What a boot leaves of a kernel's rules and of /run: nothing. */
const boot = `rm -rf /run/tortie
for p in iptables ip6tables; do for t in filter nat mangle raw; do $p -t $t -F; $p -t $t -X; done; done
for s in $(ipset list -n); do ipset destroy $s; done`;

/** Which of the ports answer somebody on the wire. */
async function open(world: Overlay, host: Host, ...ports: number[]): Promise<number[]> {
  const script = (port: number) => `exec 3<>/dev/tcp/${host.address}/${port}`;
  const codes = await Promise.all(ports.map((p) => world.lab.wire.run("timeout", ["1", "bash", "-c", script(p)])));
  return ports.filter((_, i) => codes[i]!.code === 0);
}

Deno.test("a host that boots without its datastore is protected as it was, and catches up", async () => {
  await using world = await makeOverlay({ hosts: 1, prefix: "boot", env: { FELIX_IPTABLESBACKEND: "NFT" } });
  const [host] = world.lab.hosts as [Host], [node] = world.nodes;
  for (const port of [8000, 8001]) {
    await host.start(`web${port}`, "busybox", ["httpd", "-f", "-p", `${port}`, "-h", "/etc"]);
  }
  await world.apply({ kind: "GlobalNetworkPolicy", metadata: { name: "host" }, spec: policy(tcp("Allow", 8001)) });
  await world.apply({
    kind: "HostEndpoint",
    metadata: { name: "h1", labels: { is: "host" } },
    spec: { node: "h1", interfaceName: "eth0", expectedIPs: [host.address] },
  });
  const seen = async (...wanted: number[]) => {
    assert.deepEqual(await open(world, host, 8000, 8001), wanted);
    return true;
  };
  await wait("the host to be protected", () => seen(8001));

  await node!.process.kill("SIGTERM");
  world.etcd.stop();
  await host.runOk("sh", ["-c", boot]);
  await seen(8000, 8001);
  let starting = node!.start();
  starting.catch(() => {}); // awaited below
  await wait("the last known policy to be in force", () => seen(8001), { deadlineMs: 20_000 });
  world.etcd.cont();
  await starting;
  assert.match(node!.process.logTail(200), /the last known state is in force/);
  await world.apply({ kind: "GlobalNetworkPolicy", metadata: { name: "host" }, spec: policy(tcp("Allow", 8000)) });
  await wait("a change after the datastore is back", () => seen(8000));

  const rules = async () => (await host.runOk("iptables-save", [])).replace(/^#.*\n/gm, "").replace(/\[\d+:\d+\]/g, "");
  const away = async () =>
    (await Deno.readTextFile(node!.process.logFile)).split("datastore cannot be read, what is held stays").length;
  await node!.process.kill();
  const before = await rules(), told = await away();
  world.etcd.stop();
  starting = node!.start();
  starting.catch(() => {}); // awaited below
  await wait("the agent to find its datastore away", async () => await away() > told, { deadlineMs: 20_000 });
  assert.equal(await rules(), before, "the kernel may know better than the file");
  await seen(8000);
  world.etcd.cont();
  await starting;
});
