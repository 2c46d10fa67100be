/** The steps of docs/migration_kubernetes.md on one node of two, with a ping that never stops. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { keepArtefacts } from "../lab/artefacts.ts";
import { type Felix, felixBinary, startFelix } from "../lab/felix.ts";
import type { Host, HostProcess } from "../lab/host.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { linkPlugin } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

const env = {
  ...{ CALICO_NETWORKING_BACKEND: "vxlan", CALICO_IPV4POOL_VXLAN: "Always", CALICO_IPV6POOL_CIDR: "none" },
  FELIX_IPTABLESBACKEND: "legacy",
};
const felixKind = felixBinary ? "real Felix" : "no Felix, its place stays empty";

/** Files that a Calico node has and an installation replaces. */
async function calicoFiles(host: Host): Promise<Record<string, string>> {
  const link = await host.runOk("readlink", ["/opt/cni/bin/calico"]);
  return { link: link.trim(), config: await host.runOk("cat", ["/etc/cni/net.d/10-calico.conflist"]) };
}

/** A ping every 20 ms from one pod to another. */
class Ping {
  private constructor(private readonly process: HostProcess) {}

  static async begin(from: OverlayPod, to: OverlayPod, number: number): Promise<Ping> {
    const words = ["netns", "exec", from.name, "ping", "-n", "-D", "-i", "0.02", "-W", "1", to.addresses[0]!];
    return new Ping(await from.host.start(`ping-${number}`, "ip", words));
  }

  /** Waits until some more have come back. */
  async goesOn(): Promise<void> {
    const count = () => Deno.readTextFileSync(this.process.logFile).split("bytes from").length;
    const before = count();
    await wait("pings to come back", () => count() > before + 25);
  }

  async end(): Promise<{ sent: number; received: number }> {
    await this.process.kill("SIGINT");
    const text = await Deno.readTextFile(this.process.logFile);
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? [];
    return { sent: Number(sent), received: Number(received) };
  }
}

/** What policy says of the two pods: web is let in, and nothing else. */
async function policyHolds(from: OverlayPod, to: OverlayPod): Promise<void> {
  const fetched = (port: number) =>
    from.run("curl", "-s", "-o", "/dev/null", "--connect-timeout", "1", `http://${to.addresses[0]}:${port}/`);
  await wait("the open port", async () => (await fetched(80)).code === 0);
  equal((await fetched(81)).code, 28, "the other port times out");
}

async function startCalico(overlay: Overlay, host: Host): Promise<Felix | undefined> {
  if (!felixBinary) return undefined;
  const space = {
    path: `/run/netns/${host.netns}`,
    run: (program: string, args: string[]) => host.run(program, args),
  };
  const more = { FELIX_IPTABLESBACKEND: "legacy", FELIX_IPV6SUPPORT: "false" };
  return await startFelix({ dir: host.dir, etcd: overlay.etcd, host: space } as never, felixBinary, host.name, more);
}

Deno.test(`a Calico node becomes a tortie node and back, and a ping runs on (${felixKind})`, async (t) => {
  await using overlay = await makeOverlay({ hosts: 2, prefix: "k8m", env });
  const host = overlay.lab.hosts[0]!, node = overlay.nodes[0]!, program = await linkPlugin(host);
  const [here, there] = [await overlay.pod(0, "here"), await overlay.pod(1, "there")];
  for (const port of ["80", "81"]) {
    const words = ["netns", "exec", here.name, "busybox", "httpd", "-f", "-p", port, "-h", "/etc/cni"];
    await host.start(`httpd-${port}`, "ip", words);
  }
  const allow = (protocol: string, more = {}) => ({ action: "Allow", protocol, ...more });
  const ingress = [allow("ICMP"), allow("TCP", { destination: { ports: [80] } })];
  const spec = { selector: "all()", types: ["Ingress"], ingress };
  await overlay.apply({ kind: "GlobalNetworkPolicy", metadata: { name: "web" }, spec });
  await policyHolds(there, here);
  const before = await calicoFiles(host), losses: string[] = [];
  let felix: Felix | undefined, begun = 0;
  /** A step with pings both ways; what is lost is said, and only Felix may lose any. */
  const step = (name: string, mayLose: boolean, work: () => Promise<void>) =>
    t.step(name, async () => {
      const pings = [await Ping.begin(there, here, begun++), await Ping.begin(here, there, begun++)];
      try {
        for (const ping of pings) await ping.goesOn();
        await work();
        await policyHolds(there, here);
        for (const ping of pings) await ping.goesOn();
      } catch (error) {
        console.error(`what was there is kept in ${await keepArtefacts("k8m", overlay.lab)}`);
        throw error;
      }
      for (const ping of pings) {
        const { sent, received } = await ping.end();
        losses.push(`${name}: ${sent - received} of ${sent}`);
        // The last one may be under way.
        ok(mayLose || sent - received <= 1, losses.join("; "));
      }
    });

  await step("the node is Calico's", true, async () => {
    await node.process.kill("SIGTERM");
    felix = await startCalico(overlay, host);
  });
  await step("install puts tortie's files there, with Calico's kept aside", false, async () => {
    await host.runOk(program, ["install", "--binary", program, "--no-systemd", "--force"]);
    equal((await calicoFiles(host)).link, "/usr/local/bin/tortie");
  });
  await step("Calico ends and tortie starts", false, async () => {
    await felix?.stop("SIGTERM");
    await node.start();
    const pod = await overlay.pod(0, "new");
    equal(await there.ping(pod.addresses[0]!, { count: 3 }), 3, "a pod that tortie makes");
    await pod.remove();
  });
  await step("back: the files are Calico's again, pods and rules stay", false, async () => {
    await node.process.kill("SIGTERM");
    const told = await host.runOk(program, ["uninstall", "--keep-pods"]);
    match(told, /leave pods, rules and routes as they are/);
    deepEqual(await calicoFiles(host), before);
  });
  await step("Calico takes the node over again", true, async () => {
    felix = await startCalico(overlay, host);
  });
  await felix?.stop("SIGKILL");
  await step("and tortie once more, after a Felix that was killed", false, () => node.start());
  console.log(`${felixKind}; lost pings: ${losses.join("; ")}`);
});
