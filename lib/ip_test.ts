import assert from "node:assert/strict";
import fc from "fast-check";
import * as ip from "./ip.ts";

Deno.test("parse is as strict as Go's netip: short forms, leading zeros, zones and double :: are no addresses", () => {
  for (
    const bad of [
      "1.2.3",
      "010.0.0.1",
      "1.2.3.4.5",
      "256.1.1.1",
      "",
      " 1.2.3.4",
      "1::2::3",
      "fe80::1%eth0",
      "1:2:3:4:5:6:7:8:9",
      ":::",
      "12345::",
      "1.2.3.4/24",
    ]
  ) {
    assert.equal(ip.tryParseIp(bad), undefined, bad);
  }
});

Deno.test("IPv4-mapped IPv6 is IPv4", () => {
  assert.deepEqual(ip.parseIp("::ffff:10.0.0.1"), ip.parseIp("10.0.0.1"));
});

Deno.test("text follows RFC 5952", () => {
  const forms = {
    "2001:DB8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
    "0:0:0:0:0:0:0:0": "::",
    "1:0:2:3:4:5:6:7": "1:0:2:3:4:5:6:7",
    "FD00::": "fd00::",
    "::1.2.3.4": "::102:304",
  };
  for (const [from, to] of Object.entries(forms)) assert.equal(ip.formatIp(ip.parseIp(from)), to);
});

Deno.test("a network keeps its address apart from its mask", () => {
  const net = ip.tryParseNet("192.168.7.11/24")!;
  assert.equal(ip.formatIp(net.ip), "192.168.7.11");
  assert.equal(ip.formatCidr(net.cidr), "192.168.7.0/24");
  for (const bad of ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::/129"]) {
    assert.equal(ip.tryParseNet(bad), undefined, bad);
  }
});

const anyIp = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }).map((n): ip.Ip => ({ v: 4, n })),
  fc.bigInt({ min: 1n << 48n, max: (1n << 128n) - 1n }).map((n): ip.Ip => ({ v: 6, n })),
);

Deno.test("any address survives text and bytes", () => {
  fc.assert(fc.property(anyIp, (a) => {
    assert.deepEqual(ip.parseIp(ip.formatIp(a)), a);
    assert.deepEqual(ip.ipFromBytes(ip.ipBytes(a)), a);
  }));
});

Deno.test("a network contains an address exactly when masking it gives the network", () => {
  fc.assert(fc.property(anyIp, anyIp, fc.nat(128), (a, b, n) => {
    const c = ip.cidrOf(a, n % (ip.bits(a.v) + 1));
    assert.equal(ip.contains(c, b), a.v === b.v && ip.sameIp(ip.cidrOf(b, c.len), c));
    assert.ok(ip.contains(c, a));
    assert.ok(ip.contains(c, ip.ipAt(c, ip.size(c) - 1n)));
    const next = ip.ipAt(c, ip.size(c));
    if (next.n >> BigInt(ip.bits(c.v)) === 0n) assert.ok(!ip.contains(c, next));
  }));
});
