import assert from "node:assert/strict";
import { refusalOf } from "./restore_refusal.ts";

const refusal = (code: number, stderr: string) => refusalOf({ code, stderr, stdout: "" });

Deno.test("refusalOf() reads the line and the reason that iptables-restore gives", () => {
  const legacy =
    "Ignoring deprecated --wait-interval option.\niptables-restore v1.8.9 (legacy): Set nosuch doesn't exist.\n\n" +
    "Error occurred at line: 5\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n";
  assert.deepEqual(refusal(2, legacy), { lines: [5], why: "Set nosuch doesn't exist.", passing: false });
  const nft =
    "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain cali-a\n";
  assert.deepEqual(refusal(4, nft).lines, [3]);
  assert.match(refusal(4, nft).why, /Invalid argument/);
  assert.deepEqual(refusal(1, "iptables-restore: line 4 failed\n"), {
    lines: [4],
    why: "line 4 failed",
    passing: false,
  });
  const bad = "ip6tables-nft-restore: line 2 failed: Bad rule (does a matching rule exist in that chain?).\n";
  assert.deepEqual(refusal(1, bad).lines, [2]);
});

Deno.test("refusalOf() knows what passes by itself: a held lock, a killed program", () => {
  const lock = "Another app is currently holding the xtables lock. Perhaps you want to use the -w option?\n";
  assert.equal(refusal(4, lock).passing, true);
  assert.equal(refusal(137, "").passing, true);
  assert.equal(refusal(137, "").why, "exit code 137");
});
