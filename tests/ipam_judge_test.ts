import { deepEqual, ok } from "node:assert/strict";
import { judge, type JudgeTruth } from "./ipam_judge.ts";

const block = "/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-30";
const claim = "/calico/ipam/v2/host/n1/ipv4/block/10.9.0.0-30";
const handle = "/calico/ipam/v2/handle/net.c1";
const endpoint = "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/n1-k8s-web-eth0";
const pool = "/calico/resources/v3/projectcalico.org/ippools/p";

type Value = Record<string, unknown>;

/** A cluster in which everything agrees: one address of one endpoint. */
const good = (): Record<string, Value> => ({
  [block]: {
    cidr: "10.9.0.0/30",
    affinity: "host:n1",
    allocations: [0, null, null, null],
    unallocated: [1, 2, 3],
    attributes: [{ handle_id: "net.c1", secondary: { node: "n1" } }],
    sequenceNumber: 5,
    sequenceNumberForAllocation: { 0: 4 },
    deleted: false,
  },
  [claim]: { state: "confirmed" },
  [handle]: { block: { "10.9.0.0/30": 1 } },
  [endpoint]: { spec: { node: "n1", containerID: "c1", interfaceName: "cali1", ipNetworks: ["10.9.0.0/32"] } },
  [pool]: { spec: { cidr: "10.9.0.0/24", blockSize: 30 } },
});
const truth = (): JudgeTruth => ({
  endpoints: true,
  held: new Map([["10.9.0.0", "net.c1"]]),
  interfaces: { n1: [{ name: "cali1", addresses: ["10.9.0.0"] }] },
  nowMs: 1_795_249_902_000,
});
const dump = (values: Record<string, unknown>) =>
  new Map(
    Object.entries(values).filter(([, v]) => v !== undefined).map((
      [k, v],
    ) => [k, typeof v === "string" ? v : JSON.stringify(v)]),
  );
const inBlock = (change: Value) => ({ [block]: { ...good()[block], ...change } });
const inEndpoint = (change: Value) => ({ [endpoint]: { spec: { ...good()[endpoint]!.spec as Value, ...change } } });

Deno.test("the judge finds nothing where all agree", () => {
  deepEqual(judge(dump(good()), truth()), []);
  deepEqual(judge(new Map()), []);
});

const faults: [what: string, change: Record<string, unknown>, said: RegExp][] = [
  ["broken JSON", { [block]: "{" }, /not a JSON object/],
  ["a cidr that is not the key's", inBlock({ cidr: "10.9.0.4/30" }), /says cidr/],
  ["too few allocations", inBlock({ allocations: [0, null] }), /2 allocations for 4/],
  ["an ordinal in both lists", inBlock({ unallocated: [0, 1, 2, 3] }), /assigned and in unallocated/],
  ["an ordinal in neither list", inBlock({ unallocated: [1, 2] }), /ordinal 3: free, but not in unallocated/],
  ["an ordinal twice", inBlock({ unallocated: [1, 2, 3, 3] }), /twice in unallocated/],
  ["an ordinal out of range", inBlock({ unallocated: [1, 2, 3, 9] }), /9 is out of range/],
  ["a missing attribute", inBlock({ attributes: [] }), /no attribute 0/],
  [
    "an unused attribute",
    inBlock({ attributes: [{ handle_id: "net.c1", secondary: { node: "n1" } }, {}] }),
    /nothing points to attribute 1/,
  ],
  ["no sequence number", inBlock({ sequenceNumberForAllocation: {} }), /no sequence number/],
  ["a sequence number of the future", inBlock({ sequenceNumberForAllocation: { 0: 5 } }), /not below the block's/],
  [
    "a sequence number of a free one",
    inBlock({ sequenceNumberForAllocation: { 0: 4, 1: 4 } }),
    /free, but has a sequence/,
  ],
  [
    "a release in the future",
    inBlock({ attributes: [{ releasedAt: "2030-01-01T00:00:00Z" }] }),
    /released in the future/,
  ],
  ["deleted", inBlock({ deleted: true }), /deleted is true/],
  ["no claim", { [claim]: undefined }, /its owner host:n1 has no affinity/],
  ["a claim that is pending", { [claim]: { state: "pending" } }, /is pending/],
  ["a claim on another's block", { [claim.replace("n1", "n2")]: { state: "confirmed" } }, /of host:n2 .* is host:n1's/],
  ["a claim without block", { [claim.replace("0-30", "4-30")]: { state: "confirmed" } }, /no such block/],
  [
    "an abandoned block",
    inBlock({ affinity: null, allocations: [null, null, null, null], attributes: [], unallocated: [0, 1, 2, 3] }),
    /should be gone/,
  ],
  ["no handle", { [handle]: undefined }, /holds addresses, but does not exist/],
  ["a handle that counts wrong", { [handle]: { block: { "10.9.0.0/30": 2 } } }, /counts 2 in .* holds 1/],
  [
    "a stale handle",
    { [handle.replace("c1", "c2")]: { block: { "10.9.0.0/30": 1 } } },
    /net.c2: names .* holds nothing/,
  ],
  ["an empty handle", { [handle.replace("c1", "c2")]: { block: {} } }, /names no block/],
  ["an endpoint without address", inEndpoint({ ipNetworks: ["10.9.0.1/32"] }), /10.9.0.1: of .* is not assigned/],
  ["an address without endpoint", { [endpoint]: undefined }, /no endpoint has it/],
  ["another container's address", inEndpoint({ containerID: "c2" }), /assigned to handle net.c1/],
  ["another node's endpoint", inEndpoint({ node: "n2" }), /is assigned to node n1/],
  ["two endpoints with one address", { [`${endpoint}2`]: good()[endpoint] }, /in two endpoints/],
  ["another interface", inEndpoint({ interfaceName: "cali2" }), /interface cali1 on n1: no endpoint has it/],
  ["a block size that is not the pool's", { [pool]: { spec: { cidr: "10.9.0.0/24" } } }, /has blocks of \/26/],
  ["blocks that overlap", {
    [block.replace("0-30", "2-31")]: {
      ...good()[block],
      cidr: "10.9.0.2/31",
      allocations: [null, null],
      unallocated: [0, 1],
    },
  }, /overlaps 10.9.0.2\/31/],
];
for (const [what, change, said] of faults) {
  Deno.test(`the judge sees ${what}`, () => {
    const found = judge(dump({ ...good(), ...change }), truth());
    ok(found.some((f) => said.test(f)), `${said} is not among ${JSON.stringify(found, null, 1)}`);
  });
}

Deno.test("the judge sees leaks, wrong holders and interfaces that are not there", () => {
  const all = (t: JudgeTruth) => judge(dump(good()), { ...truth(), ...t }).join("\n");
  ok(/leaked, assigned to net.c1/.test(all({ held: new Map() })));
  ok(/10.9.0.1: held by net.x, but assigned to nobody/.test(all({ held: new Map([["10.9.0.1", "net.x"]]) })));
  ok(/has no interface cali1 on n1/.test(all({ interfaces: { n1: [] } })));
  ok(/interface cali1 has 10.9.0.1/.test(all({ interfaces: { n1: [{ name: "cali1", addresses: ["10.9.0.1"] }] } })));
});

Deno.test("where Calico wrote too, counts that are too high pass, those too low do not", () => {
  const counting = (n: number) =>
    judge(dump({ ...good(), [handle]: { block: { "10.9.0.0/30": n, "10.9.0.4/30": 1 } } }), { calico: true });
  deepEqual(counting(7), []);
  ok(counting(0).length > 0);
});

Deno.test("IPv6 addresses are one however they are spelt, and big numbers are compared exactly", () => {
  const six = "/calico/ipam/v2/assignment/ipv6/block/fd00::-127";
  const text =
    '{"cidr":"fd00::/127","affinity":"host:n1","allocations":[0,null],"unallocated":[1],"attributes":[{"handle_id":"net.c1"}],' +
    '"sequenceNumber":1795249902563550424,"sequenceNumberForAllocation":{"0":1795249902563550423},"deleted":false}';
  const values = dump({
    [six]: text,
    "/calico/ipam/v2/host/n1/ipv6/block/fd00::-127": { state: "confirmed" },
    [handle]: { block: { "fd00::/127": 1 } },
  });
  deepEqual(judge(values, { held: new Map([["fd00:0::0:0", "net.c1"]]) }), []);
  values.set(six, text.replace("50423", "50424"));
  ok(judge(values).join().includes("not below"));
});
