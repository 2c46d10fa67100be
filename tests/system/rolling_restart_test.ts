/** Three hosts whose nodes are restarted one after the other while all pods ping each other, through BGP and through VXLAN. */
import assert from "node:assert/strict";
import { keepOnFailure } from "../lab/artefacts.ts";
import type { Host } from "../lab/host.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";

const sanitizers = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "BGP: a rolling restart of three nodes, a new peer and a changed filter lose no ping and no session",
  sanitizers,
  async () => {
    await using overlay = await makeOverlay({ hosts: 3, prefix: "rrb" });
    await keepOnFailure("rolling-bgp", overlay.lab, async () => {
      const { hosts } = overlay.lab, pods = await podsOf(overlay);
      const before = await Promise.all(hosts.map((h) => sessions(h, 2)));
      const lost = await lostDuring(pods, async () => {
        await restartAll(overlay);
        const own = { source: "RemotePeers", action: "Reject" };
        await overlay.apply({ kind: "BGPFilter", metadata: { name: "own" }, spec: { exportV4: [own] } });
        const peer = { peerIP: "172.30.0.99", asNumber: 64999, filters: ["own"] };
        await overlay.apply({ kind: "BGPPeer", metadata: { name: "tor" }, spec: peer });
        await Promise.all(
          hosts.map((h) => wait(`a third session on ${h.name}`, async () => (await bgp(h)).length === 3)),
        );
        const texts = await Promise.all(hosts.map(textInForce));
        await overlay.patch("bgpfilter", "own", { exportV4: [{ ...own, action: "Accept" }] });
        await Promise.all(
          hosts.map((h, i) => wait(`${h.name} to have the filter`, async () => await textInForce(h) !== texts[i])),
        );
      });
      assert.deepEqual(lost, { sent: lost.sent, lost: 0 });
      const after = await Promise.all(hosts.map(async (h) => (await bgp(h)).filter((l) => / Established/.test(l))));
      assert.deepEqual(after, before, "the same sessions, since the same moment");
    });
  },
);

Deno.test("VXLAN: a rolling restart of three nodes loses no ping", sanitizers, async () => {
  const env = { CALICO_NETWORKING_BACKEND: "vxlan", CALICO_IPV4POOL_VXLAN: "Always" };
  await using overlay = await makeOverlay({ hosts: 3, prefix: "rrv", env });
  await keepOnFailure("rolling-vxlan", overlay.lab, async () => {
    const pods = await podsOf(overlay);
    const lost = await lostDuring(pods, () => restartAll(overlay));
    assert.deepEqual(lost, { sent: lost.sent, lost: 0 });
  });
});

/** A pod on each host; each has reached each other one. */
async function podsOf(overlay: Overlay): Promise<OverlayPod[]> {
  const pods = await Promise.all(overlay.lab.hosts.map((_, i) => overlay.pod(i, `p${i + 1}`)));
  await Promise.all(
    pairsOf(pods).map(([from, to]) =>
      wait(`${from.name} to reach ${to.name}`, async () => await from.ping(to.addresses[0]!) === 1)
    ),
  );
  return pods;
}

const pairsOf = (pods: OverlayPod[]) =>
  pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => [from, to] as const));

/** As an upgrade does: one node after the other, the next when the last is ready again. */
async function restartAll({ nodes }: Overlay): Promise<void> {
  for (const node of nodes) {
    await node.process.kill("SIGTERM");
    await node.start();
  }
}

/** Pings between all pods, 100 a second each way, for as long as `work` takes. */
async function lostDuring(pods: OverlayPod[], work: () => Promise<void>): Promise<{ sent: number; lost: number }> {
  let done = false, sent = 0, lost = 0;
  const flood = async (from: OverlayPod, to: OverlayPod) => {
    const count = 100;
    while (!done) {
      lost += count - await from.ping(to.addresses[0]!, { count, everyS: 0.01 });
      sent += count;
    }
  };
  const floods = pairsOf(pods).map(([from, to]) => flood(from, to));
  try {
    await work();
  } finally {
    done = true;
    await Promise.all(floods);
  }
  return { sent, lost };
}

/** BGP sessions as BIRD shows them: name, state, since when. */
async function bgp(host: Host): Promise<string[]> {
  const { stdout } = await host.run("birdc", ["-r", "-s", "/run/tortie/bird.ctl", "show", "protocols"]);
  return stdout.split("\n").filter((line) => / BGP /.test(line)).map((line) => line.trim()).sort();
}

const sessions = (host: Host, count: number) =>
  wait(`${count} sessions on ${host.name}`, async () => {
    const all = await bgp(host);
    return all.length === count && all.every((l) => / Established/.test(l)) ? all : undefined;
  }, { deadlineMs: 30_000 });

/** What tells the text that a host's BIRD runs from every other one. */
const textInForce = async (host: Host): Promise<string> =>
  (await host.runOk("birdc", ["-s", "/run/tortie/bird.ctl", "eval", "tortie_text"])).trim();
