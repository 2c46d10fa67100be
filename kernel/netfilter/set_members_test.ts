import assert from "node:assert/strict";
import fc from "fast-check";
import { cidrOf, type Family, formatCidr, formatIp, type Ip } from "../../lib/ip.ts";
import { attributesOf } from "../rtnetlink/message.ts";
import { decodeMembers, encodeMember, memberText, type SetType } from "./set_members.ts";

const ip: fc.Arbitrary<Ip> = fc.oneof(
  fc.bigInt(0n, 2n ** 32n - 1n).map((n): Ip => ({ v: 4, n })),
  fc.bigInt(2n ** 64n, 2n ** 128n - 1n).map((n): Ip => ({ v: 6, n })),
);
const member = fc.tuple(
  ip,
  fc.integer({ min: 1, max: 128 }),
  fc.nat(65535),
  fc.constantFrom("tcp", "udp", "sctp", "99"),
);

Deno.test("members come back from the kernel's form as they went in", () => {
  fc.assert(
    fc.property(fc.constantFrom<SetType>("hash:net", "hash:ip", "hash:ip,port"), member, (type, [a, len, p, proto]) => {
      const family: Family = a.v;
      const net = formatCidr(cidrOf(a, family === 4 ? Math.min(len, 32) : len));
      const text = memberText(
        type,
        family,
        type === "hash:net" ? net : type === "hash:ip" ? formatIp(a) : `${formatIp(a)},${proto}:${p}`,
      );
      assert.ok(text !== undefined);
      assert.equal(memberText(type, family, text), text, "already as it should be");
      const encoded = encodeMember(family, text);
      assert.deepEqual([...attributesOf(encoded).keys()], [7]);
      assert.deepEqual([...decodeMembers(type, family, encoded)], [text]);
    }),
  );
});

Deno.test("memberText() writes members as the kernel shows them, and refuses what no set can hold", () => {
  const cases: [SetType, Family, string, string | undefined][] = [
    ["hash:net", 4, "10.0.0.1/32", "10.0.0.1"],
    ["hash:net", 4, "10.1.2.3/8", "10.0.0.0/8"],
    ["hash:net", 6, "FD00::0:1/128", "fd00::1"],
    ["hash:net", 4, "0.0.0.0/0", undefined],
    ["hash:net", 4, "010.0.0.1", undefined],
    ["hash:net", 4, "10.0.0.256", undefined],
    ["hash:net", 4, "fd00::1", undefined],
    ["hash:ip", 4, "10.0.0.0/24", undefined],
    ["hash:ip", 4, "10.0.0.7/32", "10.0.0.7"],
    ["hash:ip,port", 4, "10.0.0.7,tcp:080", "10.0.0.7,tcp:80"],
    ["hash:ip,port", 4, "10.0.0.7,6:80", "10.0.0.7,tcp:80"],
    ["hash:ip,port", 4, "10.0.0.7,tcp:65536", undefined],
    ["hash:ip,port", 4, "10.0.0.7,what:80", undefined],
    ["hash:ip,port", 4, "10.0.0.7", undefined],
    ["hash:ip,port", 6, "10.0.0.7,tcp:80", undefined],
  ];
  for (const [type, family, text, want] of cases) assert.equal(memberText(type, family, text), want, `${type} ${text}`);
});
