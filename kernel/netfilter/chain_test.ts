import assert from "node:assert/strict";
import { hashOf, kernelHashes, refsOf, standInOf, targetOf } from "./chain.ts";

const prefixes = ["cali-", "felix-"];

Deno.test("refsOf() finds jumps and gotos to chains of ours, and none in comments", () => {
  const lines = [
    '-A cali-a -m comment --comment "cali:x --jump cali-no" --jump cali-b',
    '-A cali-a -m comment --comment "say \\" -j cali-no" -g cali-c',
    "-A cali-a --jump DROP",
    "-A cali-a --goto KUBE-X",
    "-A cali-a -j felix-d",
    "-A cali-a --jump cali-b",
  ];
  assert.deepEqual(refsOf(lines, prefixes), ["cali-b", "cali-c", "felix-d"]);
});

Deno.test("targetOf() and hashOf() read lines as they are written and as iptables-save shows them", () => {
  const written = '-A cali-a -m comment --comment "cali:AbC-_90123456789" --jump MARK --set-mark 0x1/0x1';
  const shown = "-A cali-a -m comment --comment cali:AbC-_90123456789 -j MARK --set-xmark 0x1/0x1";
  for (const line of [written, shown]) {
    assert.deepEqual([targetOf(line), hashOf(line)], ["MARK", "AbC-_90123456789"]);
  }
  assert.deepEqual([targetOf("-A X"), hashOf("-A X -i cali+")], [undefined, undefined]);
});

Deno.test("kernelHashes() has a hash for each rule that iptables makes of a list of addresses", () => {
  const chain = {
    name: "cali-a",
    lines: [
      "-A cali-a --source 1.1.1.1,2.2.2.2 --destination 3.3.3.3,4.4.4.4,5.5.5.5 --jump DROP",
      '-A cali-a -m comment --comment "x --source 1,2" --source 1.1.1.1 --jump DROP',
      "-A cali-a -m multiport --source-ports 1,2",
    ],
    hashes: ["a", "b", "c"],
  };
  assert.deepEqual(kernelHashes(chain), [..."aaaaaabc"]);
});

Deno.test("standInOf() drops everything but in nat, unless it is told otherwise", () => {
  assert.match(standInOf("cali-a", "filter", undefined).lines.join(), /--jump DROP$/);
  assert.deepEqual(standInOf("cali-a", "nat", undefined).lines, []);
  assert.equal(standInOf("cali-a", "raw", ["--jump cali-failsafe-in", "--jump DROP"]).lines.length, 2);
});
