import { deepEqual, equal, match } from "node:assert/strict";
import { resourceKey } from "../../datastore/keys.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import { adminPolicySync, baselinePolicySync, clusterPolicySync, policySync } from "./policies.ts";
import type { Sync } from "./sync.ts";

const take = (sync: Sync, ...all: unknown[]) => {
  const [source] = sync.sources;
  return sync.kubernetes({ all: all.map((object) => source!.keep(object as KubernetesObject)) }, source!);
};
const made = (sync: Sync, key: string) => (sync.step(key, undefined) as { resource: Resource }).resource;
const subject = { namespaces: {} };
const others = { namespaces: { matchLabels: { team: "b" } } };

Deno.test("an AdminNetworkPolicy says in its tier what its successor would", () => {
  const sync = adminPolicySync();
  const [key] = take(sync, {
    metadata: { name: "a", uid: "u" },
    spec: {
      ...{ priority: 5, subject },
      ingress: [{
        name: "n",
        action: "Allow",
        from: [others],
        ports: [{ portRange: { protocol: "SCTP", start: 1, end: 9 } }],
      }],
      egress: [{ action: "Deny", to: [others], ports: [{ namedPort: "http" }] }],
    },
  });
  equal(key, resourceKey("GlobalNetworkPolicy", "kanp.a"));
  const { spec } = made(sync, key!);
  deepEqual([spec.tier, spec.order, spec.types], ["kube-admin", 5, ["Ingress", "Egress"]]);
  deepEqual(spec.ingress, [{
    ...{ metadata: { annotations: { name: "n" } }, action: "Allow", protocol: "SCTP" },
    ...{ source: { namespaceSelector: "team == 'b'" }, destination: { ports: ["1:9"] } },
  }]);
  deepEqual(spec.egress, [{ action: "Deny", destination: { namespaceSelector: "team == 'b'", ports: ["http"] } }]);
});

Deno.test("the baseline comes after every ClusterNetworkPolicy of its tier", () => {
  const sync = baselinePolicySync();
  const [key] = take(sync, {
    metadata: { name: "default" },
    spec: { subject, ingress: [{ action: "Deny", from: [others] }] },
  });
  const { metadata, spec } = made(sync, key!);
  deepEqual([metadata.name, spec.tier, spec.order], ["kbanp.default", "kube-baseline", 1001]);
});

Deno.test("what cannot be converted denies where it would deny or pass, and allows nothing", () => {
  const sync = adminPolicySync();
  for (
    const [action, rules] of [["Deny", [{ action: "Deny" }]], ["Pass", [{ action: "Deny" }]], [
      "Allow",
      undefined,
    ]] as const
  ) {
    for (
      const bad of [{ to: [{ nodes: {} }] }, { to: [others], ports: [{}] }, {
        to: [others],
        ports: [{ portNumber: { protocol: "X", port: 1 } }],
      }]
    ) {
      const [key] = take(sync, {
        metadata: { name: "a" },
        spec: { priority: 1, subject, egress: [{ action, ...bad }] },
      });
      const { spec, metadata } = made(sync, key!);
      deepEqual(spec.egress, rules);
      match(metadata.annotations!["tortie/not-followed"]!, /spec\.egress\[0\]/);
      equal(sync.trouble!(key!)!.object.kind, "AdminNetworkPolicy");
    }
  }
});

Deno.test("a policy for the cluster without a subject that can be read changes nothing that is stored, and says so", () => {
  const sync = clusterPolicySync();
  const policy = (given: unknown) => ({
    metadata: { name: "a" },
    spec: { tier: "Admin", priority: 1, subject: given },
  });
  const [key] = take(sync, policy(subject)), stored = made(sync, key!);
  equal(sync.trouble!(key!), undefined);
  take(sync, policy({}));
  equal(sync.step(key!, stored).do, "nothing");
  match(sync.trouble!(key!)!.why[0]!, /spec\.subject/);
  take(sync);
  equal(sync.step(key!, stored).do, "delete");
});

Deno.test("what stands for a policy that cannot be stored isolates whom it selects, or the whole namespace", () => {
  const sync = policySync(), all = "projectcalico.org/orchestrator == 'k8s'";
  const closedOf = (spec: unknown) => {
    const [key] = take(sync, { metadata: { name: "p", namespace: "shop" }, spec });
    return sync.closed!(key!, "why")!.spec;
  };
  const both = { tier: "default", order: 1000, types: ["Ingress", "Egress"] };
  deepEqual(closedOf({ podSelector: { matchLabels: { a: "b" } } }), { ...both, selector: `${all} && a == 'b'` });
  deepEqual(closedOf({ podSelector: {}, policyTypes: ["Egress"] }), { ...both, selector: all, types: ["Egress"] });
  const unreadable = [{ matchExpressions: [{ key: "a", operator: "Odd" }] }, { matchExpressions: "odd" }, {
    matchLabels: { ["k".repeat(300)]: "v".repeat(900) },
  }];
  for (const podSelector of unreadable) deepEqual(closedOf({ podSelector }), { ...both, selector: all });
  deepEqual(closedOf(undefined), { ...both, selector: all });
});

Deno.test("names that do not fit are shortened, each to its own", () => {
  const sync = clusterPolicySync(),
    name = (n: string) => {
      const key = take(sync, { metadata: { name: n }, spec: { tier: "Admin", priority: 1, subject } }).at(-1)!;
      return key.slice(key.lastIndexOf("/") + 1);
    };
  equal(name("plain"), "kcnp.plain");
  match(name("with.dots"), /^kcnp\.with-dots-[0-9a-f]{20}$/);
  equal(name("with.dots") === name("with-dots"), false);
  const [a, b] = ["a", "b"].map((last) => name("x".repeat(252) + last)) as [string, string];
  deepEqual([a.length, b.length, a === b], [253, 253, false]);
});
