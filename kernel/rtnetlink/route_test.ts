import assert from "node:assert/strict";
import fc from "fast-check";
import { cidrOf, parseCidr, parseIp } from "../../lib/ip.ts";
import type { Message } from "./message.ts";
import {
  addRoute,
  decodeRoute,
  describeRoute,
  kind,
  removeRoute,
  type Route,
  route,
  routeKey,
  sameRoute,
  scope,
} from "./route.ts";

const hex = (text: string) => Uint8Array.from(text.match(/../g)!, (b) => parseInt(b, 16));
const message = (body: Uint8Array): Message => ({ type: 24, flags: 0, sequence: 1, port: 0, body });
const decoded = (text: string) => decodeRoute(message(hex(text)));

Deno.test("decodeRoute() reads a pod's route", () => {
  const pod = "02200000fe03fd010000000008000f00fe000000080001000a41000208000600000400000800040003000000";
  assert.deepEqual(
    decoded(pod),
    route({ dst: parseCidr("10.65.0.2/32"), index: 3, metric: 1024, protocol: 3, scope: scope.link }),
  );
});

Deno.test("decodeRoute() reads a tunnel's route with its next hop and MTU", () => {
  const tunnel = "021a0000fe0300010400000008000f00fe000000080001000a4200800c00080008000200aa050000" +
    "080005000a4200800800040003000000";
  assert.deepEqual(
    decoded(tunnel),
    route({ dst: parseCidr("10.66.0.128/26"), index: 3, via: parseIp("10.66.0.128"), onlink: true, mtuBytes: 1450 }),
  );
});

Deno.test("decodeRoute() reads blackholes of both versions", () => {
  const v4 = "021a0000fe5000060000000008000f00fe000000080001000a420000";
  const v6 =
    "0a7a0000fe5000060000000008000f00fe00000014000100fd000000000000000000000000000000080006000004000008000400" +
    "01000000";
  const want = (dst: string) => route({ dst: parseCidr(dst), kind: kind.blackhole, protocol: 80 });
  assert.ok(sameRoute(decoded(v4)!, want("10.66.0.0/26")));
  assert.ok(sameRoute(decoded(v6)!, want("fd00::/122")), "the kernel shows it on lo");
  assert.equal(routeKey(decoded(v6)!), routeKey(want("fd00::/122")));
});

Deno.test("decodeRoute() passes over cache entries and other families", () => {
  assert.equal(decoded("0a7a0000fe5000060002000008000f00fe000000"), undefined);
  assert.equal(decoded("077a0000fe5000060000000008000f00fe000000"), undefined);
});

const ips = (v: 4 | 6) => fc.bigInt({ min: 1n, max: (1n << BigInt(v === 4 ? 32 : 128)) - 1n }).map((n) => ({ v, n }));
const routes: fc.Arbitrary<Route> = fc.constantFrom(4 as const, 6 as const).chain((v) =>
  fc.record({
    dst: fc.tuple(ips(v), fc.integer({ min: 0, max: v === 4 ? 32 : 128 })).map(([ip, len]) => cidrOf(ip, len)),
    table: fc.integer({ min: 1, max: 0xffffffff }),
    metric: fc.integer({ min: 0, max: 0xffffffff }),
    tos: fc.nat(255),
    protocol: fc.nat(255),
    scope: fc.constantFrom(0, 253, 254),
    index: fc.integer({ min: 1, max: 0x7fffffff }),
    via: fc.option(ips(v), { nil: undefined }),
    source: fc.option(ips(v), { nil: undefined }),
    mtuBytes: fc.option(fc.integer({ min: 68, max: 65535 }), { nil: undefined }),
    onlink: fc.boolean(),
  }).map(route)
);

Deno.test("a route that is written is read back as the same", () => {
  fc.assert(fc.property(routes, (r) => {
    for (const request of [addRoute(r), addRoute(r, true), removeRoute(r)]) {
      assert.deepEqual(decodeRoute(message(request.body)), r);
    }
  }));
});

Deno.test("addRoute() takes no place that is taken unless it is told to", () => {
  const r = route({ dst: parseCidr("10.0.0.0/24"), index: 1 });
  assert.deepEqual([addRoute(r).flags, addRoute(r, true).flags, removeRoute(r).type], [0x600, 0x500, 25]);
});

Deno.test("sameRoute() sees every difference that matters", () => {
  const a = route({ dst: parseCidr("10.0.0.0/24"), index: 1, via: parseIp("10.9.9.9") });
  const others: Partial<Route>[] = [
    ...[{ protocol: 4 }, { kind: kind.blackhole }, { index: 2 }, { via: undefined }, { via: parseIp("10.9.9.8") }],
    ...[{ source: parseIp("1.1.1.1") }, { scope: 253 }, { onlink: true }, { mtuBytes: 1400 }, { multipath: true }],
  ];
  assert.ok(sameRoute(a, { ...a }));
  for (const other of others) assert.equal(sameRoute(a, { ...a, ...other }), false, JSON.stringify(Object.keys(other)));
});

Deno.test("describeRoute() says what an operator needs", () => {
  const r = route({ dst: parseCidr("10.0.0.0/26"), via: parseIp("192.0.2.1"), index: 3, protocol: 12, metric: 32 });
  assert.equal(describeRoute(r), "10.0.0.0/26 via 192.0.2.1 interface 3 protocol 12 metric 32");
  const hole = route({ dst: parseCidr("10.0.0.0/26"), kind: kind.blackhole, protocol: 80 });
  assert.equal(describeRoute(hole), "blackhole 10.0.0.0/26 protocol 80 metric 0");
});
