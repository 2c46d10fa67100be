/**
 * Programs that write firewall rules on the same host, as Debian ships them, started after us and before us, and made to
 * write their rules anew: what we deny stays denied at every moment, our jumps come first again, and their rules are as they
 * are without us. `./dev test` fetches their packages; without them nothing is shown here, and that is said.
 */
import assert from "node:assert/strict";
import type { Host } from "../lab/host.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";
import { type Neighbour, neighbours } from "./_neighbours.ts";

const cache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/root"}/.cache`;
const packages = `${cache}/tortie/neighbours`;

function debs(): string[] {
  try {
    return [...Deno.readDirSync(packages)].map((f) => `${packages}/${f.name}`).filter((f) => f.endsWith(".deb"));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** All rules that are not ours, as text without counters. */
async function theirRules(host: Host): Promise<string[]> {
  const saved = (await Promise.all(["iptables-save", "ip6tables-save"].map((p) => host.runOk(p, [])))).join("");
  const tables = await host.runOk("nft", ["list", "ruleset"]);
  const own = /\n?table inet firewalld \{\n[^]*?\n\}\n/.exec(tables)?.[0] ?? "";
  const lines = `${saved}${own}`.split("\n").map((l) => l.replace(/\[\d+:\d+\]/, "").trim());
  return lines.filter((l) => l !== "" && !l.startsWith("#") && !l.includes("cali")).sort();
}

/** The first rule of each chain in which Calico's chains come first. */
async function firstRules(host: Host): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const chain of ["INPUT", "FORWARD", "OUTPUT"]) {
    const rules = (await host.runOk("iptables", ["-S", chain])).split("\n");
    found[chain] = /-j (\S+)/.exec(rules.find((r) => r.startsWith("-A")) ?? "")?.[1] ?? "none";
  }
  return found;
}

const ours = { INPUT: "cali-INPUT", FORWARD: "cali-FORWARD", OUTPUT: "cali-OUTPUT" };

/** Of a hundred packets a second: emptied twice, each time written again within a second and a half. */
const mostWhileEmpty = 300;

interface Scene {
  world: Overlay;
  host: Host;
  from: OverlayPod;
  to: OverlayPod;
}

const answers = async (one: OverlayPod, other: OverlayPod): Promise<boolean> =>
  (await one.run("ping", "-n", "-q", "-c", "1", "-W", "1", other.addresses[0]!)).code === 0;

/** What passes now. */
async function flows({ world, host, from, to }: Scene): Promise<Record<string, boolean>> {
  const reach = async (port: number) => {
    const script = `exec 3<>/dev/tcp/${host.address}/${port}`;
    return (await world.lab.wire.run("timeout", ["1", "bash", "-c", script])).code === 0;
  };
  const [allowed, denied, open, closed] = await Promise.all([
    answers(to, from),
    answers(from, to),
    reach(8001),
    reach(8000),
  ]);
  return {
    "pod to pod": allowed,
    "pod to pod, denied": denied,
    "outside to host 8001": open,
    "outside to host 8000, denied": closed,
  };
}

const wanted = {
  "pod to pod": true,
  "pod to pod, denied": false,
  "outside to host 8001": true,
  "outside to host 8000, denied": false,
};

async function makeScene(stack: AsyncDisposableStack): Promise<Scene> {
  const world = stack.use(
    await makeOverlay({ hosts: 1, prefix: "nb", env: { FELIX_IPTABLESBACKEND: "NFT" } }),
  );
  const [host] = world.lab.hosts as [Host];
  await host.runOk("sh", ["-c", `DEBIAN_FRONTEND=noninteractive dpkg -i --force-depends ${debs().join(" ")}`], {
    timeoutMs: 120_000,
  });
  const [from, to] = [await world.pod(0, "one"), await world.pod(0, "two")];
  const denied = { action: "Deny", protocol: "ICMP", destination: { nets: [`${to.addresses[0]}/32`] } };
  await world.apply({
    kind: "GlobalNetworkPolicy",
    metadata: { name: "pods" },
    spec: { selector: "!has(is)", ingress: [denied, { action: "Allow" }], egress: [{ action: "Allow" }] },
  });
  const tcp = (action: string, port: number) => ({ action, protocol: "TCP", destination: { ports: [port] } });
  await world.apply({
    kind: "GlobalNetworkPolicy",
    metadata: { name: "host" },
    spec: { selector: "is == 'host'", ingress: [tcp("Allow", 8001), tcp("Deny", 8000)], egress: [{ action: "Allow" }] },
  });
  await world.apply({
    kind: "HostEndpoint",
    metadata: { name: "h1", labels: { is: "host" } },
    spec: { node: "h1", interfaceName: "eth0", expectedIPs: [host.address] },
  });
  for (const port of [8000, 8001]) {
    await host.start(`web${port}`, "busybox", ["httpd", "-f", "-p", String(port), "-h", "/etc"]);
  }
  return { world, host, from, to };
}

/** Waits until our jumps come first and packets fare as they should. */
async function settles(scene: Scene, { name, refusesByItself }: Neighbour, when: string): Promise<void> {
  const allowed = !refusesByItself;
  const expected = { ...wanted, "pod to pod": allowed, "outside to host 8001": allowed };
  let seen: unknown;
  await wait(`our rules to be in force beside ${name}, ${when}`, async () => {
    assert.deepEqual(seen = await firstRules(scene.host), ours);
    assert.deepEqual(seen = await flows(scene), expected);
    return true;
  }, { deadlineMs: 15_000, everyMs: 100 }).catch((error) => {
    throw new Error(`${error.message}; seen last: ${JSON.stringify(seen)}`);
  });
}

Deno.test({ name: "programs beside us keep their rules and we keep ours", ignore: debs().length === 0 }, async (t) => {
  await using stack = new AsyncDisposableStack();
  const scene = await makeScene(stack);
  const { world, host, from, to } = scene, node = world.nodes[0]!;
  for (const neighbour of neighbours) {
    await t.step(neighbour.name, async () => {
      console.log(`    ${await host.runOk("dpkg-query", ["-W", neighbour.package])}`.trimEnd());
      await wait("packets to fare as they should without it", async () => {
        assert.deepEqual(await flows(scene), wanted);
        return true;
      });
      const stop = new AbortController();
      let denied = 0, sent = 0;
      const probing = (async () => {
        while (!stop.signal.aborted) {
          sent += 100;
          denied += await from.ping(to.addresses[0]!, { count: 100, everyS: 0.01 });
        }
      })();
      try {
        await neighbour.start(host);
        await settles(scene, neighbour, "started after us");
        assert.match((await theirRules(host)).join("\n"), neighbour.marks);
        await neighbour.reload(host);
        await settles(scene, neighbour, "after it wrote its rules anew");
        const beside = await theirRules(host);
        await node.process.kill();
        await node.start();
        await settles(scene, neighbour, "started before us");
        assert.deepEqual(await theirRules(host), beside, "our start changes nothing of its rules");
      } finally {
        stop.abort();
        await probing;
        await neighbour.stop(host);
      }
      console.log(`    ${sent} packets that we deny: ${denied} passed`);
      assert.ok(denied <= (neighbour.emptiesTables ? mostWhileEmpty : 0), `${denied} passed`);
    });
  }
});
