import { deepEqual, equal, match, throws } from "node:assert/strict";
import { Problem } from "../../lib/problem.ts";
import { calicoPolicyOf, type NetworkPolicy, type PolicyPeer, storedPolicyOf } from "./network_policy.ts";
import { type LabelledObject, profileOfNamespace, profileOfServiceAccount } from "./profile.ts";

interface ConversionCase {
  id: string;
  what: string;
  input: { kind?: string; object: NetworkPolicy & LabelledObject };
  expect: { value: unknown; error?: boolean };
}

const { cases } = JSON.parse(Deno.readTextFileSync("tests/cases/conversion.json")) as { cases: ConversionCase[] };
const ofKind = (kind: string) => cases.filter((c) => c.input.kind === kind);
/** Where we say no and Calico says yes to all. */
const failClosed = ["conv-028"];

for (const { id, what, input, expect } of ofKind("NetworkPolicy")) {
  if (failClosed.includes(id)) continue;
  Deno.test(`calicoPolicyOf() converts as Calico does: ${what} (${id})`, () => {
    const { policy, problems } = calicoPolicyOf(input.object);
    deepEqual(policy, expect.value);
    equal(problems.length > 0, expect.error ?? /unknown operator/.test(what), problems.join("; "));
  });
}

const profiles = { Namespace: profileOfNamespace, ServiceAccount: profileOfServiceAccount };
for (const [kind, convert] of Object.entries(profiles)) {
  for (const { id, what, input, expect } of ofKind(kind)) {
    Deno.test(`${convert.name}() converts as Calico does: ${what} (${id})`, () => {
      if (expect.error) throws(() => convert(input.object), Problem);
      else deepEqual(convert(input.object), expect.value);
    });
  }
}

const from = (...peers: PolicyPeer[]): NetworkPolicy => ({
  metadata: { name: "p", namespace: "shop" },
  spec: { podSelector: {}, ingress: [{ from: peers }] },
});
const ingressOf = (policy: NetworkPolicy) => calicoPolicyOf(policy).policy.spec.ingress;

Deno.test("calicoPolicyOf() lets a peer that cannot be read match nobody, and says so", () => {
  const readable: PolicyPeer = { ipBlock: { cidr: "10.0.0.0/8" } };
  const unreadable: PolicyPeer[] = [
    { ipBlock: { cidr: "10.0.0.1" } },
    { ipBlock: { cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "nonsense"] } },
    { podSelector: { matchExpressions: [{ key: "size", operator: "Gt", values: ["5"] }] } },
    { podSelector: { matchExpressions: [{ key: "size", operator: "In", values: [] }] } },
    { namespaceSelector: { matchLabels: { "a": "x' || has(b) || a == '" } } },
    { podSelector: { matchLabels: { "a) || has(b": "x" } } },
  ];
  for (const peer of unreadable) {
    equal(ingressOf(from(peer)), undefined);
    deepEqual(ingressOf(from(peer, readable)), [{ action: "Allow", source: { nets: ["10.0.0.0/8"] } }]);
    match(calicoPolicyOf(from(peer)).problems.join(), /^spec\.ingress\[0\]: .* its peer is left out$/);
  }
});

Deno.test("calicoPolicyOf() of a policy whose own pods cannot be told selects more of them and allows nothing", () => {
  const policy = from({ ipBlock: { cidr: "0.0.0.0/0" } });
  policy.spec!.podSelector = {
    matchLabels: { a: "b" },
    matchExpressions: [{ key: "c", operator: "Gt", values: ["1"] }],
  };
  const { policy: { spec }, problems } = calicoPolicyOf(policy);
  deepEqual([spec.selector, spec.ingress], ["projectcalico.org/orchestrator == 'k8s' && a == 'b'", undefined]);
  equal(problems.length, 1);
});

Deno.test("calicoPolicyOf() leaves out a rule with a port that cannot be read", () => {
  for (const port of [{ port: 0 }, { port: 70000 }, { port: 90, endPort: 80 }, { port: "http", endPort: 80 }]) {
    const policy = from();
    policy.spec!.ingress = [{ ports: [port] }, { ports: [{ port: 80, endPort: 80 }] }];
    deepEqual(ingressOf(policy), [{ action: "Allow", protocol: "TCP", destination: { ports: [80] } }]);
    equal(calicoPolicyOf(policy).problems.length, 1);
  }
});

Deno.test("storedPolicyOf() keeps name and namespace alone", () => {
  const { policy } = storedPolicyOf({
    metadata: { name: "a", namespace: "shop", uid: "30316465-6365-4463-ad63-3564622d3638", labels: { x: "y" } },
    spec: { podSelector: {}, policyTypes: ["Egress", "Ingress"] },
  });
  deepEqual(policy.metadata, { name: "knp.default.a", namespace: "shop" });
  deepEqual(policy.spec.types, ["Ingress", "Egress"]);
});
