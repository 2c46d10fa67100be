import { deepEqual, equal } from "node:assert/strict";
import * as fc from "fast-check";
import { formatCidr, formatIp, parseIp } from "../../lib/ip.ts";
import { resourceKey } from "../../datastore/keys.ts";
import type { Suspects } from "../../ipam/collect.ts";
import { type Reader, type View, viewOf } from "../../ipam/view.ts";
import { type KeptPod, keptPod } from "../sources.ts";
import { type Findings, lookForLeaks, podUses, type Truth } from "./leaks.ts";

type Owner = Record<string, string>;
interface Given {
  ordinal: number;
  handle: string;
  owner: Owner;
  sequence?: number;
}

/** A picture of etcd with blocks of 10.0.<n>.0/29: by number their owner and what is given. */
function viewWith(blocks: Record<number, { affinity?: string; given?: Given[] }>, handles: string[] = []): View {
  const values = new Map<string, string>();
  for (const [n, { affinity = "host:a", given = [] }] of Object.entries(blocks)) {
    const attributes = given.map(({ handle, owner }) => ({ handle_id: handle, secondary: owner }));
    const allocations = Array.from({ length: 8 }, (_, o) => {
      const index = given.findIndex(({ ordinal }) => ordinal === o);
      return index < 0 ? null : index;
    });
    values.set(
      `/calico/ipam/v2/assignment/ipv4/block/10.0.${n}.0-29`,
      JSON.stringify({
        ...{ cidr: `10.0.${n}.0/29`, affinity, allocations, attributes, deleted: false, sequenceNumber: 9 },
        unallocated: allocations.flatMap((a, o) => a === null ? [o] : []),
        sequenceNumberForAllocation: Object.fromEntries(given.map(({ ordinal, sequence = 1 }) => [ordinal, sequence])),
      }),
    );
    for (const { handle } of given) {
      values.set(`/calico/ipam/v2/handle/${handle}`, JSON.stringify({ block: { [`10.0.${n}.0/29`]: 1 } }));
    }
  }
  for (const id of handles) values.set(`/calico/ipam/v2/handle/${id}`, JSON.stringify({ block: { "10.9.9.0/29": 1 } }));
  values.set(resourceKey("ClusterInformation", "default"), JSON.stringify({ spec: { datastoreReady: true } }));
  const all = [...values].map(([key, value]) => ({ key, value, revision: 5n, created: 5n }));
  const reader: Reader = {
    revision: 5n,
    get: (key) => all.find((kv) => kv.key === key),
    list: (prefix) => all.filter(({ key }) => key.startsWith(prefix)).sort((x, y) => (x.key < y.key ? -1 : 1)),
  };
  return viewOf(reader);
}

const podOwner = (pod: string, node = "a"): Owner => ({ namespace: "shop", pod, node });
const podOf = (name: string, ip?: string, more: Record<string, unknown> = {}): KeptPod =>
  keptPod(
    {
      ...{ metadata: { name, namespace: "shop" }, spec: { nodeName: "a" } },
      ...(ip && { status: { podIP: ip, podIPs: [{ ip }] } }),
      ...more,
    } as Parameters<typeof keptPod>[0],
  );
const truthOf = (pods: KeptPod[], there = ["a"], foreign: string[] = []): Truth => ({
  pod: (namespace, name) => pods.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace),
  node: (name) =>
    there.includes(name) ? { is: "there", name } : foreign.includes(name) ? { is: "foreign" } : { is: "gone" },
});
const ips = ({ leaks }: Findings) => leaks.map(({ ip }) => formatIp(ip));
const none: Suspects = new Map();
const graceMs = 1_000;

Deno.test("an address that its pod does not have is a candidate, and a leak after the grace period", () => {
  const view = viewWith({ 0: { given: [{ ordinal: 1, handle: "h", owner: podOwner("gone") }] } });
  const first = lookForLeaks(view, truthOf([]), none, { nowMs: 0, graceMs });
  deepEqual([ips(first), first.candidates.length, first.dueMs], [[], 1, 1_000]);
  const later = lookForLeaks(view, truthOf([]), first.suspects, { nowMs: 1_000, graceMs });
  deepEqual(ips(later), ["10.0.0.1"]);
  const never = lookForLeaks(view, truthOf([]), first.suspects, { nowMs: 1e9, graceMs: 0 });
  deepEqual([ips(never), never.candidates.length], [[], 1]);
});

Deno.test("an address that was given anew begins anew", () => {
  const given = (sequence: number) =>
    viewWith({ 0: { given: [{ ordinal: 1, handle: "h", owner: podOwner("x"), sequence }] } });
  const first = lookForLeaks(given(1), truthOf([]), none, { nowMs: 0, graceMs });
  deepEqual(ips(lookForLeaks(given(2), truthOf([]), first.suspects, { nowMs: 1_000, graceMs })), []);
});

Deno.test("what pods have, may get, or what is nobody's to judge stays", () => {
  const given = [
    { ordinal: 0, handle: "has", owner: podOwner("has") },
    { ordinal: 1, handle: "starting", owner: podOwner("starting") },
    { ordinal: 2, handle: "noted", owner: podOwner("noted") },
    { ordinal: 3, handle: "vm", owner: { ...podOwner("vm"), "vmi-name": "vm" } },
    { ordinal: 4, handle: "by-hand", owner: { node: "a", note: "mine" } },
    { ordinal: 5, handle: "tunnel", owner: { node: "a", type: "vxlanTunnelAddress" } },
    { ordinal: 6, handle: "elsewhere", owner: podOwner("x", "bare") },
  ];
  const annotations = { "cni.projectcalico.org/podIPs": "10.0.0.2/32" };
  const noted = podOf("noted", "10.0.0.77", { metadata: { name: "noted", namespace: "shop", annotations } });
  const truth = truthOf([podOf("has", "10.0.0.0"), podOf("starting"), noted], ["a"], ["bare"]);
  const first = lookForLeaks(viewWith({ 0: { given } }), truth, none, { nowMs: 0, graceMs });
  const later = lookForLeaks(viewWith({ 0: { given } }), truth, first.suspects, { nowMs: 1e6, graceMs });
  deepEqual([ips(later), later.candidates.length, later.nodes], [[], 0, []]);
});

Deno.test("a pod that went to another node, was evicted, or has another address leaves its old one", () => {
  const ip = parseIp("10.0.0.1");
  const evicted = {
    spec: { nodeName: "a" },
    status: { phase: "Failed", reason: "Evicted", podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }] },
  };
  deepEqual(
    [
      podUses(ip, podOf("p", "10.0.0.1"), "a"),
      podUses(ip, podOf("p", "10.0.0.1"), "b"),
      podUses(ip, podOf("p", "10.0.0.2"), "a"),
      podUses(ip, podOf("p", "010.0.0.1 is none"), "a"),
      podUses(ip, podOf("p", undefined, evicted), "a"),
      podUses(ip, undefined, "a"),
    ],
    [true, false, false, true, false, false],
  );
});

Deno.test("of a node that is gone everything goes at once, tunnels last, unless something of it lives", () => {
  const given = [
    { ordinal: 1, handle: "p", owner: podOwner("p") },
    { ordinal: 2, handle: "t", owner: { node: "a", type: "ipipTunnelAddress" } },
  ];
  const view = viewWith({ 0: { given } });
  const gone = lookForLeaks(view, truthOf([], []), none, { nowMs: 0, graceMs });
  deepEqual([ips(gone).sort(), gone.nodes], [["10.0.0.1", "10.0.0.2"], ["a"]]);
  const lives = lookForLeaks(view, truthOf([podOf("p", "10.0.0.1")], []), none, { nowMs: 0, graceMs });
  deepEqual([ips(lives), lives.nodes], [[], []]);
});

Deno.test("one block always stays; others go when they were empty for the grace period", () => {
  const used = { given: [{ ordinal: 1, handle: "p", owner: podOwner("p") }] };
  const truth = truthOf([podOf("p", "10.0.0.1")]);
  const spare = (view: View) => {
    const { suspects } = lookForLeaks(view, truth, none, { nowMs: 0, graceMs });
    return lookForLeaks(view, truth, suspects, { nowMs: graceMs, graceMs }).spare.map(({ cidr }) => formatCidr(cidr));
  };
  deepEqual(spare(viewWith({ 0: used, 1: {}, 2: {} })), ["10.0.1.0/29", "10.0.2.0/29"]);
  deepEqual(spare(viewWith({ 1: {}, 2: {} })), ["10.0.1.0/29"]);
  deepEqual(
    spare(viewWith({ 1: { affinity: "virtual:load-balancer" }, 2: { affinity: "virtual:load-balancer" } })),
    [],
  );
});

Deno.test("a handle that holds nothing goes after the grace period, one that holds something never", () => {
  const view = viewWith({ 0: { given: [{ ordinal: 1, handle: "p", owner: podOwner("p") }] } }, ["stale"]);
  const truth = truthOf([podOf("p", "10.0.0.1")]);
  const { suspects, handles } = lookForLeaks(view, truth, none, { nowMs: 0, graceMs });
  deepEqual(handles, []);
  deepEqual(lookForLeaks(view, truth, suspects, { nowMs: graceMs, graceMs }).handles, ["stale"]);
});

Deno.test("whatever the cluster looks like, no address of a living pod is released, nor a part of a handle", () => {
  const one = fc.record({
    pod: fc.constantFrom("p1", "p2", "p3"),
    handle: fc.constantFrom("h1", "h2", "h3"),
    node: fc.constantFrom("a", "b", "c"),
  });
  const living = fc.array(fc.record({ name: fc.constantFrom("p1", "p2", "p3"), ordinal: fc.nat(7) }), { maxLength: 3 });
  const there = fc.subarray(["a", "b", "c"]);
  fc.assert(
    fc.property(fc.array(one, { maxLength: 8 }), living, there, fc.nat(3_000), (owners, alive, nodes, nowMs) => {
      const given = owners.map(({ pod, handle, node }, ordinal) => ({ ordinal, handle, owner: podOwner(pod, node) }));
      const view = viewWith({ 0: { given } });
      const pods = alive.map(({ name, ordinal }) => ({ ...podOf(name, `10.0.0.${ordinal}`), node: undefined }));
      const truth = truthOf(pods, nodes);
      const first = lookForLeaks(view, truth, none, { nowMs: 0, graceMs });
      const { leaks } = lookForLeaks(view, truth, first.suspects, { nowMs, graceMs });
      for (const { ip, handle, owner } of leaks) {
        equal(truth.pod("shop", owner.pod!)?.addresses.includes(formatIp(ip)) ?? false, false);
        const whole = given.filter((g) => g.handle === handle).length;
        equal(leaks.filter((leak) => leak.handle === handle).length, whole);
      }
    }),
  );
});
