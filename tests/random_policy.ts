/** Random resources for property tests of policy. */
import fc from "fast-check";
import type { Resource } from "../datastore/kind.ts";

/** A resource from its parts. */
export const resource = (
  kind: string,
  name: string,
  namespace: string | undefined,
  spec: unknown,
  labels?: unknown,
): Resource => ({ apiVersion: "projectcalico.org/v3", kind, metadata: { name, namespace, labels }, spec }) as Resource;

/** A workload endpoint of namespace shop. */
export const pod = (
  name: string,
  node: string,
  labels: Record<string, string>,
  nets: readonly string[],
  more: object = {},
): Resource =>
  resource("WorkloadEndpoint", `${node}-k8s-${name}-eth0`, "shop", {
    node,
    orchestrator: "k8s",
    pod: name,
    endpoint: "eth0",
    interfaceName: `cali${name}`,
    ipNetworks: nets,
    profiles: ["kns.shop"],
    ...more,
  }, { ...labels, "projectcalico.org/namespace": "shop" });

const labelValue = fc.constantFrom("x", "y");
const labels = fc.dictionary(fc.constantFrom("a", "b", "c"), labelValue, { maxKeys: 3 });
const selectorText = fc.oneof(
  fc.constantFrom(
    "all()",
    "",
    "has(a)",
    "!has(b)",
    "a == 'x' || b == 'y'",
    "c in {'x','y'}",
    "a != 'x'",
    "has(a) && b == 'x'",
  ),
  fc.constantFrom("pcns.team == 'x'", "a not in {'x'}", "projectcalico.org/namespace == 'shop'"),
);
const action = fc.constantFrom("Allow", "Deny", "Pass", "Log");
const side = fc.record({
  selector: selectorText,
  notSelector: fc.constantFrom("", "b == 'x'"),
  namespaceSelector: fc.constantFrom("", "", "team == 'x'", "all()", "global()"),
  nets: fc.constantFrom([], ["10.0.0.0/30"], ["fd00::/64"]),
  ports: fc.constantFrom([], [80], ["http"], ["http", "1000:2000"]),
}, { requiredKeys: [] });
const rule = fc.record({
  action,
  protocol: fc.constantFrom("TCP", "UDP"),
  source: side,
  destination: side,
}, { requiredKeys: ["action", "protocol"] });
const order = fc.constantFrom(undefined, 1, 2, 2.5);
const policySpec = fc.record({
  selector: selectorText,
  tier: fc.constantFrom("default", "first", "gone"),
  order,
  types: fc.constantFrom(["Ingress"], ["Egress"], ["Ingress", "Egress"], []),
  ingress: fc.array(rule, { maxLength: 2 }),
  egress: fc.array(rule, { maxLength: 2 }),
});

/** Any resource of a small world in which most things meet. */
export const anyResource: fc.Arbitrary<Resource> = fc.oneof(
  {
    arbitrary: fc.tuple(
      fc.constantFrom("p0", "p1", "p2", "p3"),
      labels,
      fc.constantFrom("n1", "n2"),
      fc.constantFrom(["10.0.0.1/32"], ["10.0.0.2/32", "fd00::2/128"], []),
      fc.boolean(),
    ).map(([name, l, node, nets, port]) =>
      pod(name, node, l, nets, port ? { ports: [{ name: "http", protocol: "TCP", port: 8080 }] } : {})
    ),
    weight: 4,
  },
  {
    arbitrary: fc.tuple(fc.constantFrom("q0", "q1", "q2"), policySpec).map(([n, s]) =>
      resource("NetworkPolicy", n, "shop", s)
    ),
    weight: 3,
  },
  fc.tuple(fc.constantFrom("g0", "g1"), policySpec).map(([n, s]) => resource("GlobalNetworkPolicy", n, undefined, s)),
  fc.tuple(fc.constantFrom("default", "first"), order, fc.constantFrom("Deny", "Pass")).map(([n, o, d]) =>
    resource("Tier", n, undefined, { order: o, defaultAction: d })
  ),
  fc.tuple(fc.constantFrom("kns.shop"), fc.dictionary(fc.constantFrom("pcns.team", "a"), labelValue)).map(([n, l]) =>
    resource("Profile", n, undefined, { labelsToApply: l, ingress: [{ action: "Allow" }] })
  ),
  fc.tuple(fc.constantFrom("s0", "s1"), labels, fc.constantFrom(["192.0.2.0/24"], ["10.0.0.1/32"], ["0.0.0.0/0"])).map((
    [n, l, nets],
  ) => resource("GlobalNetworkSet", n, undefined, { nets }, l)),
  fc.tuple(fc.constantFrom("h0", "h1"), labels, fc.constantFrom("n1", "n2")).map(([n, l, node]) =>
    resource("HostEndpoint", n, undefined, { node, interfaceName: "eth0", expectedIPs: ["172.16.0.1"] }, l)
  ),
);
