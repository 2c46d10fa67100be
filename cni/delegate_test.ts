import { deepEqual, equal, throws } from "node:assert/strict";
import { anyPodCidrs, needsPodCidrs, podCidrsOf, withPodCidrs } from "./delegate.ts";

Deno.test("withPodCidrs() replaces the words in subnet and ranges, in any case of letters, and nothing else", () => {
  const config = {
    name: "n",
    ipam: {
      type: "host-local",
      subnet: "usePodCIDR",
      ranges: [[{ subnet: "USEPODCIDRIPV6", gateway: "x" }], [{ subnet: "10.0.0.0/8" }]],
    },
  };
  deepEqual(withPodCidrs(config, { v4: "10.1.0.0/24", v6: "fd00::/64" }), {
    name: "n",
    ipam: {
      type: "host-local",
      subnet: "10.1.0.0/24",
      ranges: [[{ subnet: "fd00::/64", gateway: "x" }], [{ subnet: "10.0.0.0/8" }]],
    },
  });
  equal(needsPodCidrs(config), true);
  equal(needsPodCidrs({ ipam: { ranges: [[{ subnet: "10.0.0.0/8" }], "odd"] } }), false);
  deepEqual(withPodCidrs({ ipam: "odd" }, anyPodCidrs), { ipam: "odd" });
});

Deno.test("podCidrsOf() takes one of each family, from the list before the single one", () => {
  const node = (spec: object) => ({ metadata: { name: "n" }, spec });
  deepEqual(podCidrsOf(node({ podCIDR: "10.0.0.0/24" })), { v4: "10.0.0.0/24", v6: "" });
  deepEqual(podCidrsOf(node({ podCIDR: "10.0.0.0/24", podCIDRs: ["fd00::/64", "10.9.0.0/24"] })), {
    v4: "10.9.0.0/24",
    v6: "fd00::/64",
  });
  throws(() => podCidrsOf(node({})), /no podCidr for node n/);
});
