import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { resource } from "../random_policy.ts";
import { firstSourcePort, outsideAddresses } from "./random_pods.ts";

const often = <T>(usual: T, ...others: fc.Arbitrary<T>[]): fc.Arbitrary<T> =>
  fc.oneof(
    { arbitrary: fc.constant(usual), weight: 2 * others.length },
    ...others.map((arbitrary) => ({ arbitrary, weight: 1 })),
  );
const from = <T>(...values: T[]) => fc.constantFrom(...values);

const selector = often(
  "",
  from(
    "all()",
    "app == 'x'",
    "has(role)",
    "!has(app)",
    "app == 'x' || role == 'y'",
    "role in {'x','y'}",
    "app != 'x'",
    "kind == 'outside'",
  ),
);
const someNets = fc.oneof(
  fc.subarray(
    ["10.65.0.10/32", "10.65.0.8/30", "10.65.0.0/24", "203.0.113.0/24", "198.51.100.7/32", "0.0.0.0/0", "192.0.2.0/24"],
    { minLength: 1, maxLength: 3 },
  ),
  fc.subarray(["fd00:65::10/127", "fd00:65::/64", "2001:db8:113::/48", "::/0"], { minLength: 1, maxLength: 3 }),
  fc.subarray(["10.65.0.10/31", "10.65.0.12/31", "203.0.113.5/32", "fd00:65::/112", "2001:db8::/32"], { minLength: 2 }),
);
const exceptNets = fc.oneof(
  fc.subarray(["10.65.0.10/32", "10.65.0.12/31", "203.0.113.0/24", "198.51.100.7/32"], { minLength: 1 }),
  fc.subarray(["fd00:65::10/127", "2001:db8:113::/48", "fd00:65::12/128"], { minLength: 1 }),
  fc.subarray(["10.65.0.11/32", "203.0.113.5/32", "fd00:65::11/128", "2001:db8:51::7/128"], { minLength: 2 }),
);
const many = Array.from({ length: 20 }, (_, i) => 70 + i);
const destinationPorts = often<(number | string)[]>(
  [],
  from<(number | string)[]>([80], [80, 443], ["1000:2000"], ["http"], ["http", 443], ["dns", "http"], ["sig"], [
    "nobody",
  ]),
  from<(number | string)[]>(many, [...many, "http"], ["0:65535"], ["1:52", "54:79", "81:8080"], [53, 80, 8081]),
);
const sourcePorts = often<(number | string)[]>(
  [],
  from<(number | string)[]>(
    [`${firstSourcePort}:${firstSourcePort + 15}`],
    Array.from({ length: 20 }, (_, i) => firstSourcePort + 2 * i),
    ["http"],
  ),
);
const side = (ports: fc.Arbitrary<(number | string)[]>) =>
  fc.record({
    selector,
    notSelector: often("", from("role == 'x'", "has(app)"), from("kind == 'outside'", "app == 'y'")),
    namespaceSelector: often("", from("app == 'x'", "all()", "global()", "projectcalico.org/name == 'red'")),
    serviceAccounts: often<object | undefined>(undefined, from({ names: ["one"] }, { selector: "grade == 'y'" })),
    nets: often<string[]>([], someNets, someNets),
    notNets: often<string[]>([], exceptNets, exceptNets),
    ports,
    notPorts: often<(number | string)[]>([], ports),
  }, { requiredKeys: [] });
const noPorts = fc.constant<(number | string)[]>([]);
const action = from("Allow", "Allow", "Deny", "Pass", "Log");
const version = often<number | undefined>(undefined, from(4, 6));

const portRule = fc.record({
  action,
  ipVersion: version,
  protocol: from<string | number>("TCP", "TCP", "UDP", "UDP", 6, 17, "SCTP", "UDPLite", 132),
  source: side(sourcePorts),
  destination: side(destinationPorts),
}, { requiredKeys: ["action", "protocol"] });
const portlessRule = fc.record({
  action,
  ipVersion: version,
  protocol: often<string | number | undefined>(undefined, from<string | number>("ICMP", "ICMPv6", 99, 1)),
  notProtocol: often<string | number | undefined>(undefined, from<string | number>("TCP", 17, "ICMP")),
  source: side(noPorts),
  destination: side(noPorts),
}, { requiredKeys: ["action"] });
const icmpRule = fc.record({
  action,
  protocol: from("ICMP", "ICMPv6"),
  icmp: often<object | undefined>(
    undefined,
    from({ type: 8 }, { type: 128, code: 0 }, { type: 13, code: 0 }, { type: 8, code: 1 }),
  ),
  notICMP: often<object | undefined>(undefined, from({ type: 8 }, { type: 128 }, { type: 13, code: 0 })),
  source: side(noPorts),
}, { requiredKeys: ["action", "protocol"] });

/** Any rule that Calico's API accepts. */
export const anyRule = fc.oneof(
  { arbitrary: portRule, weight: 4 },
  { arbitrary: portlessRule, weight: 2 },
  { arbitrary: icmpRule, weight: 1 },
);

/** Rules that the API refuses in part, as another writer of etcd may leave them. */
export const anyStrangeRule = fc.record({
  action,
  ipVersion: version,
  protocol: often<string | number | undefined>(
    undefined,
    from<string | number>("TCP", "UDP", "ICMP", "ICMPv6", 99, 1, 58, 6),
  ),
  notProtocol: often<string | number | undefined>(undefined, from<string | number>("TCP", 17, "ICMP", 58, "SCTP")),
  icmp: often<object | undefined>(
    undefined,
    from<object>({ type: 8 }, { type: 128, code: 0 }, { type: 255 }, { code: 3 }),
  ),
  notICMP: often<object | undefined>(undefined, from<object>({ type: 8 }, { type: 128 }, { type: 300 })),
  source: side(sourcePorts),
  destination: side(fc.oneof(destinationPorts, from<(number | string)[]>(["80:70"], [70000], ["no such"], [""]))),
}, { requiredKeys: ["action"] });

const policySpec = (rule: fc.Arbitrary<object>) =>
  fc.record({
    tier: from("default", "default", "first", "passing", "gone"),
    order: from(undefined, 1, 2, 2.5),
    types: from(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    ingress: fc.array(rule, { maxLength: 3 }),
    egress: fc.array(rule, { maxLength: 3 }),
  });

const anyPolicy = (rule: fc.Arbitrary<object>) =>
  fc.tuple(
    from("NetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"),
    from("a", "b", "c", "d"),
    from("red", "blue"),
    policySpec(rule),
    selector,
    often("", from("app == 'x'", "all()")),
  ).map(([kind, name, namespace, spec, selector, namespaceSelector]): Resource =>
    kind.includes("Global")
      ? resource(kind, name, undefined, { ...spec, selector, namespaceSelector })
      : resource(kind, name, namespace, { ...spec, selector })
  );

/** Any policies with such rules, with tiers and network sets: everything but endpoints and their profiles. */
export const anyPolicies = (rule: fc.Arbitrary<object>): fc.Arbitrary<Resource[]> =>
  fc.tuple(
    fc.array(anyPolicy(rule), { minLength: 1, maxLength: 5 }),
    from("Deny", "Pass"),
    from(10, 1000, undefined),
  ).map(([policies, action, order]) => [
    ...policies,
    resource("Tier", "default", undefined, { order: 1_000_000, defaultAction: "Deny" }),
    resource("Tier", "first", undefined, { order, defaultAction: action }),
    resource("Tier", "passing", undefined, { order: 500, defaultAction: "Pass" }),
    resource("GlobalNetworkSet", "far-away", undefined, {
      nets: [`${outsideAddresses[4][1]}/32`, "2001:db8:113::/48"],
    }, { kind: "outside" }),
    resource("NetworkSet", "near", "red", { nets: ["198.51.100.0/24", "0.0.0.0/0"] }, { app: "y" }),
  ]);
