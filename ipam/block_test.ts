import { deepEqual, equal, throws } from "node:assert/strict";
import fc from "fast-check";
import { formatCidr, parseCidr, parseIp } from "../lib/ip.ts";
import { parseJson } from "../lib/json64.ts";
import { judge } from "../tests/ipam_judge.ts";
import {
  attribute,
  type Block,
  collectCooled,
  decodeBlock,
  encodeBlock,
  isEmpty,
  isFree,
  newBlock,
  ordinalAt,
  ordinalsOf,
  releaseOrdinals,
  takeNext,
  takeOrdinal,
  withOwner,
} from "./block.ts";

const now = 1_795_249_902_000;
const cidr = parseCidr("10.88.10.240/29");
const key = "/calico/ipam/v2/assignment/ipv4/block/10.88.10.240-29";
const none = () => false;
const fresh = (sequence = 1795249902563550423n) =>
  newBlock(cidr, formatCidr(cidr), "host:alder", { nowMs: now, sequence });
const at = (cooldownS: number, nowMs = now) => ({ nowMs, cooldownS });

Deno.test("encodeBlock() writes what Calico writes, byte by byte", () => {
  const attributes = attribute("net-x.c0ffee01", {
    node: "alder",
    timestamp: "2026-11-21 08:31:42.556064344 +0000 UTC",
  });
  const { block } = takeNext(fresh(), 1, attributes, none);
  equal(
    encodeBlock(block),
    '{"cidr":"10.88.10.240/29","affinity":"host:alder","affinity_claim_time":"2026-11-21T08:31:42Z",' +
      '"allocations":[0,null,null,null,null,null,null,null],"unallocated":[1,2,3,4,5,6,7],' +
      '"attributes":[{"handle_id":"net-x.c0ffee01","secondary":{"node":"alder","timestamp":"2026-11-21 08:31:42.556064344 +0000 UTC"}}],' +
      '"sequenceNumber":1795249902563550424,"sequenceNumberForAllocation":{"0":1795249902563550423},"deleted":false}',
  );
});

Deno.test("a block that nobody was given anything of has no attributes list, one that was has an empty one", () => {
  equal(encodeBlock(fresh()).includes('"attributes":null'), true);
  const used = decodeBlock(encodeBlock(takeNext(fresh(), 1, attribute("h", {}), none).block), key);
  equal(encodeBlock(releaseOrdinals(used, [0], at(0), false)).includes('"attributes":[]'), true);
});

Deno.test("decoding and encoding keeps unknown members and 64-bit numbers, and counts one up", () => {
  const text =
    '{"cidr":"10.0.0.0/31","affinity":null,"allocations":[0,null],"unallocated":[1],"attributes":[{"x":{"y":1}}],' +
    '"sequenceNumber":18446744073709551614,"sequenceNumberForAllocation":{"0":18446744073709551000},"deleted":false,"hostAffinity":"old"}';
  const again = encodeBlock(decodeBlock(text, "k"));
  deepEqual(parseJson(again), parseJson(text.replace("551614,", "551615,")));
});

Deno.test("decodeBlock() refuses what an edit could not be right on, naming the member", () => {
  const good = { cidr: "10.0.0.0/31", affinity: null, allocations: [null, null], unallocated: [0, 1], attributes: [] };
  const bad: [object, RegExp][] = [
    [{ cidr: "10.0.0.0" }, /cidr/],
    [{ cidr: "10.0.0.0/8" }, /cidr/],
    [{ allocations: [null] }, /allocations/],
    [{ allocations: [0, null] }, /allocations/],
    [{ unallocated: [2] }, /unallocated/],
    [{ attributes: [1] }, /attributes/],
    [{ affinity: 1 }, /affinity/],
    [{ sequenceNumber: -1 }, /sequenceNumber/],
    [{ sequenceNumber: 1.5 }, /sequenceNumber/],
  ];
  for (const [change, message] of bad) throws(() => decodeBlock(JSON.stringify({ ...good, ...change }), "k"), message);
  for (const text of ["", "[]", "null", "{"]) throws(() => decodeBlock(text, "k"), /stored value/);
  equal(decodeBlock(JSON.stringify(good), "k").sequenceNumber, 0n);
});

Deno.test("takeNext() never gives an ordinal that the queue names although it is assigned, or names twice", () => {
  const odd: Block = {
    ...fresh(),
    unallocated: [0, 0, 1, 2],
    allocations: [0, null, null, null, null, null, null, null],
    attributes: [{}],
  };
  deepEqual(takeNext(odd, 9, attribute("h", {}), none).ordinals, [1, 2]);
});

Deno.test("reserved addresses are stepped over and stay in their place", () => {
  const { block, ordinals } = takeNext(fresh(), 2, attribute("h", {}), (ip) => ip.n % 2n === 0n);
  deepEqual(ordinals, [1, 3]);
  deepEqual(block.unallocated, [0, 2, 4, 5, 6, 7]);
});

Deno.test("a released address cools for at least its cooldown, and at most a second longer", () => {
  const taken = takeOrdinal(fresh(), 3, attribute("h", {}));
  for (const phase of [0, 1, 500, 999]) {
    const released = releaseOrdinals(taken, [3], at(10, now + phase), false);
    const stored = decodeBlock(encodeBlock(released), key);
    equal(isFree(collectCooled(stored, at(10, now + phase + 9_999)), 3), false, `${phase} too early`);
    equal(isFree(collectCooled(stored, at(10, now + phase + 11_000)), 3), true, `${phase} too late`);
    equal(isEmpty(stored), false);
  }
  equal(isFree(releaseOrdinals(taken, [3], at(0), false), 3), true);
});

Deno.test("what follows a carriage return in a stored handle is ignored", () => {
  const block = takeOrdinal(fresh(), 0, attribute("net.c1\r\neth0", {}));
  deepEqual(ordinalsOf(block, "net.c1"), [0]);
});

type Edit = { do: "take"; handle: number; count: number } | { do: "release"; handle: number } | { do: "wait" } | {
  do: "disown";
};
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ do: fc.constant("take" as const), handle: fc.nat(4), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ do: fc.constant("release" as const), handle: fc.nat(4) }),
  fc.record({ do: fc.constant("wait" as const) }),
  fc.record({ do: fc.constant("disown" as const) }),
);

Deno.test("any edits, written and read in between, leave a block that the judge finds in order", () => {
  fc.assert(fc.property(fc.array(edit, { maxLength: 25 }), fc.constantFrom(0, 7), (edits, cooldownS) => {
    let block = fresh();
    let nowMs = now;
    const held = new Map<string, string>();
    for (const e of edits) {
      const handle = "handle" in e ? `n.h${e.handle}` : "";
      const cooling = { nowMs, cooldownS };
      block = collectCooled(block, cooling);
      if (e.do === "take") {
        const taken = takeNext(block, e.count, attribute(handle, {}), none);
        for (const o of taken.ordinals) held.set(`10.88.10.${240 + o}`, handle);
        block = taken.block;
      } else if (e.do === "release") {
        for (const o of ordinalsOf(block, handle)) held.delete(`10.88.10.${240 + o}`);
        block = releaseOrdinals(block, ordinalsOf(block, handle), cooling, true);
      } else if (e.do === "wait") nowMs += 5_000;
      else block = withOwner(block, "host:birch", nowMs);
      block = decodeBlock(encodeBlock(block), key);
    }
    const claim = `/calico/ipam/v2/host/${block.affinity!.slice(5)}/ipv4/block/10.88.10.240-29`;
    const dump = new Map([[key, encodeBlock(block)], [claim, '{"state":"confirmed"}']]);
    for (const h of new Set(held.values())) {
      const count = [...held.values()].filter((x) => x === h).length;
      dump.set(`/calico/ipam/v2/handle/${h}`, JSON.stringify({ block: { "10.88.10.240/29": count } }));
    }
    deepEqual(judge(dump, { held, nowMs }), []);
  }));
});

Deno.test("an address outside the block has no ordinal", () => {
  deepEqual(
    ["10.88.10.239", "10.88.10.240", "10.88.10.247", "10.88.10.248", "fd00::"].map((t) =>
      ordinalAt(fresh(), parseIp(t))
    ),
    [
      undefined,
      0,
      7,
      undefined,
      undefined,
    ],
  );
});
