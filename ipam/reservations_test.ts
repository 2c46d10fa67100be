import { equal } from "node:assert/strict";
import fc from "fast-check";
import { contains, parseCidr, parseIp, size } from "../lib/ip.ts";
import { reservationsOf } from "./reservations.ts";

const cidr = fc.record({ n: fc.integer({ min: 0, max: 63 }), len: fc.integer({ min: 26, max: 32 }) })
  .map(({ n, len }) => parseCidr(`10.0.0.${n}/${len}`));

Deno.test("has(), whole() and endOf() answer as looking at every address would", () => {
  fc.assert(fc.property(fc.array(cidr, { maxLength: 6 }), cidr, (reserved, asked) => {
    const r = reservationsOf(reserved);
    const isReserved = (n: bigint) => reserved.some((c) => contains(c, { v: 4, n }));
    const all = Array.from({ length: Number(size(asked)) }, (_, i) => asked.n + BigInt(i));
    equal(r.whole(asked), all.every(isReserved));
    for (const n of all) equal(r.has({ v: 4, n }), isReserved(n));
    let end = asked.n;
    while (isReserved(end + 1n)) end++;
    equal(r.endOf({ v: 4, n: asked.n }), isReserved(asked.n) ? end : undefined);
  }));
});

Deno.test("IPv4 and IPv6 reservations do not mix", () => {
  const r = reservationsOf([parseCidr("::/0")]);
  equal(r.has(parseIp("10.0.0.1")), false);
  equal(r.whole(parseCidr("fd00::/64")), true);
});
