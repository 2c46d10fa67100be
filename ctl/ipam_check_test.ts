import assert from "node:assert/strict";
import { formatIp } from "../lib/ip.ts";
import { blockKey, handleKey } from "../datastore/keys.ts";
import { MemoryStore } from "../datastore/memory.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../datastore/kinds/workload_endpoint.ts";
import { parseCidr } from "../lib/ip.ts";
import { coldReader, viewOf } from "../ipam/view.ts";
import { checkIpam, leakReason, problemCount } from "./ipam_check.ts";
import { checkText, common } from "./ipam_check_text.ts";

const cidr = parseCidr("10.65.3.64/30");

/** A block with addresses of four owners, and their handles. */
async function filled(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const owner = (handle: string, secondary: Record<string, string>) => ({ handle_id: handle, secondary });
  const block = {
    cidr: "10.65.3.64/30",
    affinity: "host:n1",
    allocations: [0, 1, 2, 3],
    unallocated: [],
    attributes: [
      owner("used", { node: "n1", pod: "web-0", namespace: "shop" }),
      owner("gone", { node: "n9", pod: "web-1", namespace: "shop" }),
      owner("tunnel", { node: "n1", type: "vxlanV6TunnelAddress" }),
      { handle_id: "cold", releasedAt: "2026-01-02T03:04:05Z" },
    ],
    sequenceNumber: 9,
    sequenceNumberForAllocation: { "0": 1, "1": 2, "2": 3, "3": 4 },
  };
  const write = [
    { put: blockKey(cidr), value: JSON.stringify(block) },
    ...["used", "gone", "idle"].map((id) => ({ put: handleKey(id), value: `{"block":{"10.65.3.64/30":1}}` })),
  ];
  await store.txn({ compare: [], write });
  return store;
}

const node = { metadata: { name: "n1" }, spec: { ipv6VXLANTunnelAddr: "fd65::1" } } as unknown as Node;
const endpoint = (ip: string) =>
  ({ metadata: { name: "w", namespace: "shop" }, spec: { ipNetworks: [ip] } }) as unknown as WorkloadEndpoint;

Deno.test("an address is leaked when nobody uses it and it does not cool down, with the reason", async () => {
  const view = viewOf(await coldReader(await filled()));
  const check = checkIpam(view, { nodes: [node], endpoints: [endpoint("10.65.3.64/32"), endpoint("192.0.2.7/32")] });
  assert.deepEqual(check.leaked.map((a) => [formatIp(a.ip), leakReason(a, new Set(["n1"]))]), [
    ["10.65.3.65", "no workload endpoint of pod shop/web-1 has it, and node n9 does not exist"],
    ["10.65.3.66", "it is no vxlanV6TunnelAddress of node n1"],
  ]);
  assert.deepEqual(check.idleHandles.map((h) => h.id), ["idle"]);
  assert.deepEqual(check.missingHandles, ["tunnel", "cold"]);
  assert.deepEqual(check.outsidePools.map(([ip]) => ip).sort(), ["192.0.2.7", "fd65::1"]);
  assert.equal(problemCount(check), 5);
  const text = checkText(view, check, { all: false, problems: true });
  assert.match(text, /10\.65\.3\.65 leaked; attrs Main:gone Extra:namespace=shop,node=n9,pod=web-1\n/);
  assert.match(text, /Check complete; found 5 problems\.\n$/);
});

Deno.test("only what every report says in the same state may be released", () => {
  const report = (sequence: bigint, revision: string) => ({
    addresses: new Map([["10.0.0.1", { handle: "h", sequenceNumber: 1n }], ["10.0.0.2", {
      handle: "h",
      sequenceNumber: sequence,
    }]]),
    handles: new Map([["a", "1"], ["b", revision]]),
  });
  const { addresses, handles } = common([report(5n, "7"), report(6n, "8")]);
  assert.deepEqual([...addresses.keys()], ["10.0.0.1"]);
  assert.deepEqual([...handles.keys()], ["a"]);
});
