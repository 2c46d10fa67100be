import assert from "node:assert/strict";
import { anyInterface, chainName, chainPrefixes, listsInterfaces, policySuffix } from "./names.ts";

Deno.test("a policy, profile or interface that is named like a list of interfaces is none", () => {
  for (const chain of ["cali-from-wl-dispatch", "cali-to-wl-dispatch-b", "cali-from-host-endpoint"]) {
    assert.ok(listsInterfaces(chain), chain);
  }
  for (const name of ["deny-endpoint", "a-dispatch-b", "from-wl-dispatch"]) {
    const policy = chainName(chainPrefixes.policy.ingress, policySuffix({ kind: "GlobalNetworkPolicy", name }));
    assert.equal(policy, `cali-pi-gnp/${name}`);
    for (
      const chain of [policy, chainName(chainPrefixes.profile.egress, name), `${chainPrefixes.workload.to}${name}`]
    ) {
      assert.equal(listsInterfaces(chain), false, chain);
    }
  }
  assert.equal(listsInterfaces(chainName(chainPrefixes.hostForward.to, anyInterface)), false);
});
