/** What nobody should write about BGP, pools and nodes, all at once: the rest keeps working, and each object is named. */
import assert from "node:assert/strict";
import { derivedMac } from "../../agent/network/cluster_nodes.ts";
import { keepOnFailure } from "../lab/artefacts.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";

const root = "/calico/resources/v3/projectcalico.org";

/** Path, resource, who is named, and why. */
const wrong: [path: string, spec: Record<string, unknown>, object: string, why: RegExp][] = [
  ["bgppeers/no-as", { peerIP: "172.30.0.90" }, "BGPPeer:no-as", /spec\.asNumber/],
  ["bgppeers/one", { peerIP: "172.30.0.91", asNumber: 64901 }, "BGPPeer:two", /same address and port as BGPPeer one/],
  ["bgppeers/two", { peerIP: "172.30.0.91", asNumber: 64902 }, "BGPPeer:two", /same address/],
  [
    "bgpfilters/long",
    { exportV4: [{ cidr: "10.0.0.0/8", matchOperator: "In", prefixLength: { min: 30, max: 40 }, action: "Accept" }] },
    "BGPFilter:long",
    /prefixLength|40/,
  ],
  ["bgppeers/filtered", { peerIP: "172.30.0.92", asNumber: 64903, filters: ["long"] }, "BGPFilter:long", /./],
  [
    "bgppeers/secret",
    { peerIP: "172.30.0.93", asNumber: 64904, password: { secretKeyRef: { name: "none", key: "tor" } } },
    "BGPPeer:secret",
    /password|secret/i,
  ],
  [
    "ippools/inner",
    { cidr: "10.244.0.0/20", vxlanMode: "Always", nodeSelector: "!all()" },
    "IPPool:",
    /overlaps with IPPool/,
  ],
  ["nodes/homeless", { orchRefs: [] }, "", /./], // named once a block is behind it
  ["nodes/unreadable", { bgp: { ipv4Address: "172.30.0.300/24" } }, "Node:unreadable", /ipv4Address/],
  [
    "nodes/thief",
    {
      bgp: { ipv4Address: "172.30.0.94/24" },
      ...{ ipv4VXLANTunnelAddr: "10.244.15.1", vxlanTunnelMACAddr: derivedMac("h1", 4) },
    },
    "Node:thief",
    /VXLAN MAC of IPv4 .* is also that of node h1/,
  ],
  ...["keyed-1", "keyed-2"].map((name, i): [string, Record<string, unknown>, string, RegExp] => [
    `nodes/${name}`,
    { bgp: { ipv4Address: `172.30.0.${95 + i}/24` }, status: { wireguardPublicKey: btoa("k".repeat(32)) } },
    `Node:${name}`,
    /WireGuard key of IPv4 .* is also that of node keyed-/,
  ]),
];

Deno.test("bad peers, filters, pools and nodes: what is good keeps working, and each object is named", {
  sanitizeOps: false,
  sanitizeResources: false,
}, async (t) => {
  await using overlay = await makeOverlay({ hosts: 2, prefix: "rbi", env: { CALICO_IPV4POOL_VXLAN: "CrossSubnet" } });
  await keepOnFailure("routes-bad-input", overlay.lab, async () => {
    const pods = await Promise.all([overlay.pod(0, "one"), overlay.pod(1, "two")]) as [OverlayPod, OverlayPod];
    await wait("the pods to reach each other", async () => await pods[0].ping(pods[1].addresses[0]!) === 1);

    await t.step("all of them at once", async () => {
      for (const [path, { status, ...spec }] of wrong) {
        const kind =
          { bgppeers: "BGPPeer", bgpfilters: "BGPFilter", ippools: "IPPool", nodes: "Node" }[path.split("/")[0]!];
        const metadata = {
          name: path.split("/")[1],
          uid: crypto.randomUUID(),
          creationTimestamp: "2026-01-02T03:04:05Z",
        };
        const value = { kind, apiVersion: "projectcalico.org/v3", metadata, spec, status };
        await overlay.etcd.etcdctl("put", `${root}/${path}`, JSON.stringify(value));
      }
      for (const [, , object, why] of wrong.filter(([, , object]) => object !== "")) {
        await isNamed(overlay, object, why);
      }
      await stillWorks(overlay, pods);
    });

    await t.step("a node without address that has a block is named", async () => {
      const cidr = "10.244.200.0/26";
      const value = {
        cidr,
        affinity: "host:homeless",
        allocations: Array(64).fill(null),
        attributes: [],
        unallocated: [],
      };
      const key = `/calico/ipam/v2/assignment/ipv4/block/${cidr.replace("/", "-")}`;
      await overlay.etcd.etcdctl("put", key, JSON.stringify(value));
      await isNamed(overlay, "Node:homeless", /no IPv4 address .* 10\.244\.200\.0\/26 is behind it/);
      await stillWorks(overlay, pods);
    });

    await t.step("an address of ours that another interface has is named until it has it no more", async () => {
      const [host] = overlay.lab.hosts;
      const tunnel = await wait(
        "the tunnel's address",
        async () => /inet (\S+)\/32/.exec((await host!.run("ip", ["addr", "show", "dev", "vxlan.calico"])).stdout)?.[1],
      );
      await host!.runOk("ip", ["addr", "add", `${tunnel}/32`, "dev", "lo"]);
      await isNamed(overlay, `address ${tunnel}`, /vxlan\.calico has it, and so has lo/);
      await stillWorks(overlay, pods);
      await host!.runOk("ip", ["addr", "del", `${tunnel}/32`, "dev", "lo"]);
      await wait(
        "nobody else to have it",
        async () => !(await refused(overlay)).some((r) => r.object.includes(tunnel)),
      );
    });

    await t.step("gone, nothing is named any more", async () => {
      for (const [path] of wrong) await overlay.etcd.etcdctl("del", `${root}/${path}`);
      await wait("nothing to be refused", async () => (await refused(overlay)).length === 0);
      await stillWorks(overlay, pods);
    });
  });
});

interface Refusal {
  object: string;
  why: string;
}

/** What the first node says is not in force. */
async function refused({ lab }: Overlay): Promise<Refusal[]> {
  const words = ["-sS", "--max-time", "5", "--unix-socket", "/run/tortie/agent.sock", "http://a/v1/status"];
  return JSON.parse(await lab.hosts[0]!.runOk("curl", words)).policy.refused;
}

async function isNamed(overlay: Overlay, object: string, why: RegExp): Promise<void> {
  await wait(
    `${object} to be named`,
    async () => (await refused(overlay)).some((r) => r.object.startsWith(object) && why.test(r.why)),
  ).catch(async (error) => {
    throw new Error(`${error.message}: ${JSON.stringify(await refused(overlay), undefined, 1)}`);
  });
}

/** The pods reach each other, the nodes' session is up, and a new pod gets in. */
async function stillWorks({ lab }: Overlay, [one, two]: [OverlayPod, OverlayPod]): Promise<void> {
  assert.equal(await one.ping(two.addresses[0]!, { count: 3 }), 3);
  const { stdout } = await lab.hosts[0]!.run("birdc", ["-r", "-s", "/run/tortie/bird.ctl", "show", "protocols"]);
  assert.match(stdout, /^Mesh_172_30_0_12 +BGP .* Established/m);
}
