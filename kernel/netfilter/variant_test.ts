import assert from "node:assert/strict";
import { chooseVariant, parseVersion } from "./variant.ts";

const none = [undefined, undefined];
const rules = (n: number) => ["-A INPUT -j DROP\n".repeat(n), ":INPUT ACCEPT [0:0]\n"];
const hint = [":KUBE-IPTABLES-HINT - [0:0]\n", undefined];
const choose = (mangleNft: typeof none | string[], mangleLegacy: typeof none | string[], nft = 0, legacy = 0) =>
  chooseVariant({
    mangle: { nft: mangleNft, legacy: mangleLegacy },
    all: { nft: rules(nft), legacy: rules(legacy) },
  });

Deno.test("chooseVariant() follows kubelet's hint, the nft one first, whatever the numbers of rules are", () => {
  assert.equal(choose(hint as string[], hint as string[], 0, 9), "nft");
  assert.equal(choose(none, hint as string[], 9, 0), "legacy");
  assert.equal(choose(["KUBE-KUBELET-CANARY"], none, 0, 9), "nft");
});

Deno.test("chooseVariant() takes the variant with more rules, legacy when equal", () => {
  assert.equal(choose(none, none, 2, 1), "nft");
  assert.equal(choose(none, none, 1, 2), "legacy");
  assert.equal(choose(none, none), "legacy");
});

Deno.test("parseVersion() reads version and variant", () => {
  assert.deepEqual(parseVersion("iptables-restore v1.8.9 (nf_tables)"), { version: "1.8.9", variant: "nft" });
  assert.deepEqual(parseVersion("iptables v1.6.1"), { version: "1.6.1", variant: "legacy" });
  assert.deepEqual(parseVersion("?"), { version: undefined, variant: "legacy" });
});
