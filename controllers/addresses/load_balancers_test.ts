import { deepEqual, equal, match, throws } from "node:assert/strict";
import { formatIp, parseCidr, parseIp } from "../../lib/ip.ts";
import type { Pool } from "../../ipam/pools/pool.ts";
import type { KeptService } from "../sources.ts";
import type { Allocation } from "./allocations.ts";
import { balanceOf, handleOfService, ingressOf, isManaged } from "./load_balancers.ts";

const service = (more: Partial<KeptService> = {}): KeptService => ({
  metadata: { name: "web", namespace: "shop" },
  ...{ uid: "u", annotations: {}, type: "LoadBalancer", loadBalancerClass: undefined, loadBalancerIP: undefined },
  ...{ families: ["IPv4"], ingress: [] },
  ...more,
});
const pool = (name: string, cidr: string, manual = false) => ({ name, cidr: parseCidr(cidr), manual }) as Pool;
const pools = [pool("open", "203.0.113.0/24"), pool("asked", "198.51.100.0/24", true), pool("six", "2001:db8::/64")];
const has = (ip: string, handle = handleOfService(service())): Allocation => ({
  ...{ ip: parseIp(ip), block: parseCidr(ip.includes(":") ? `${ip}/124` : `${ip}/28`), handle, sequenceNumber: 1n },
  ...{ owner: { namespace: "shop", service: "web" }, affinity: "virtual:load-balancer" },
});
const told = (of: KeptService, ...have: Allocation[]) => {
  const { release, keep, take } = balanceOf(of, have, pools);
  const texts = (list: Allocation[]) => list.map(({ ip }) => formatIp(ip));
  return { release: texts(release), keep: texts(keep), take };
};

Deno.test("whose Services are ours depends on type, class and, when only wishes count, wishes", () => {
  const wish = { annotations: { "projectcalico.org/ipv4pools": "[]" } };
  const cases: [Partial<KeptService>, boolean, boolean][] = [
    [{}, true, false],
    [{ type: "ClusterIP", loadBalancerClass: "calico" }, false, false],
    [{ loadBalancerClass: "calico" }, true, true],
    [{ loadBalancerClass: "cloud" }, false, false],
    [{ loadBalancerClass: "cloud", ...wish }, false, false],
    [wish, true, true],
    [{ loadBalancerIP: "203.0.113.1" }, true, true],
  ];
  for (const [given, always, asked] of cases) {
    const modes = ["AllServices", "RequestedServicesOnly"] as const;
    deepEqual(modes.map((mode) => isManaged(service(given), mode)), [always, asked]);
  }
});

Deno.test("the handle depends on name, namespace and uid, in Calico's form", () => {
  match(handleOfService(service()), /^lb-[A-Za-z0-9]{30,43}$/);
  equal(handleOfService(service()), handleOfService(service({ annotations: { a: "b" } })));
  equal(handleOfService(service()) === handleOfService(service({ uid: "other" })), false);
});

Deno.test("an address of each family is taken, the missing one later too", () => {
  const both = service({ families: ["IPv4", "IPv6"] });
  deepEqual(told(both).take, { families: [4, 6], pools: undefined });
  deepEqual(told(both, has("203.0.113.1")).take, { families: [6], pools: undefined });
  deepEqual(told(both, has("203.0.113.1"), has("2001:db8::1")).take, undefined);
});

Deno.test("what a wish does not name goes", () => {
  const named = service({ annotations: { "projectcalico.org/loadBalancerIPs": '["203.0.113.7"]' } });
  deepEqual(told(named, has("203.0.113.1")), {
    ...{ release: ["203.0.113.1"], keep: [], take: { addresses: [parseIp("203.0.113.7")] } },
  });
  deepEqual(told(named, has("203.0.113.7")), { release: [], keep: ["203.0.113.7"], take: undefined });
  const pooled = service({ annotations: { "projectcalico.org/ipv4pools": '["asked"]' } });
  deepEqual(told(pooled, has("203.0.113.1")), {
    ...{ release: ["203.0.113.1"], keep: [], take: { families: [4], pools: { 4: ["198.51.100.0/24"] } } },
  });
  deepEqual(told(service(), has("198.51.100.1")).release, ["198.51.100.1"], "of a pool that gives none by itself");
  deepEqual(told(service(), has("203.0.113.1", "lb-of-an-earlier-life")).release, ["203.0.113.1"]);
});

Deno.test("the address in the spec is a wish for a new one, and keeps one of a pool that gives none by itself", () => {
  const wishing = service({ loadBalancerIP: "198.51.100.9" });
  deepEqual(told(wishing).take, { addresses: [parseIp("198.51.100.9")] });
  deepEqual(told(wishing, has("198.51.100.9")), { release: [], keep: ["198.51.100.9"], take: undefined });
  deepEqual(told(wishing, has("203.0.113.1")), { release: [], keep: ["203.0.113.1"], take: undefined });
});

Deno.test("of two addresses of one family, given by two controllers at once, the one that the status tells first stays", () => {
  const two = [has("203.0.113.1"), has("203.0.113.2")];
  deepEqual(told(service(), ...two).release, ["203.0.113.2"]);
  const said = service({ ingress: [{ ip: "203.0.113.2" }, { ip: "203.0.113.1" }] });
  deepEqual([told(said, ...two).keep, told(said, ...two).release], [["203.0.113.2"], ["203.0.113.1"]]);
});

Deno.test("a wish that cannot be read is refused by its name, and nothing is released for it", () => {
  const wrong: Record<string, string> = {
    "projectcalico.org/ipv4pools": '["none"]',
    "projectcalico.org/ipv6pools": '["open"]',
    "projectcalico.org/loadBalancerIPs": '["203.0.113.1","203.0.113.2"]',
  };
  for (const [name, text] of Object.entries(wrong)) {
    throws(() => told(service({ annotations: { [name]: text } }), has("203.0.113.1")), new RegExp(name));
  }
  throws(() => told(service({ annotations: { "projectcalico.org/ipv4pools": "open" } })), /not a JSON list/);
  throws(() => told(service({ loadBalancerIP: "here" })), /spec.loadBalancerIP/);
});

Deno.test("the status is written when it says something else, whatever the order", () => {
  const said = service({ ingress: [{ ip: "203.0.113.2" }, { ip: "203.0.113.1" }] });
  equal(ingressOf(said, [parseIp("203.0.113.1"), parseIp("203.0.113.2")]), undefined);
  deepEqual(ingressOf(said, [parseIp("203.0.113.1")]), [{ ip: "203.0.113.1" }]);
  deepEqual(ingressOf(service({ ingress: [{ hostname: "x" }] }), []), []);
});
