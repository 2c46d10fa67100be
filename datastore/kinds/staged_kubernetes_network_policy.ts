import { always, given, integer, list, map, object, type Refuse, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { maxNameLength } from "../names.ts";
import { int32, intOrText, readPort } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn, specColumn } from "../columns.ts";

const labelSelector = () =>
  object({
    matchLabels: map(text()),
    matchExpressions: list(object({
      key: always(text()),
      operator: always(text()),
      values: list(text()),
    })),
  });

const peers = () =>
  list(object({
    podSelector: given(labelSelector()),
    namespaceSelector: given(labelSelector()),
    ipBlock: given(object({ cidr: always(text()), except: list(text()) })),
  }));

const ports = () =>
  list(object({
    protocol: given(text()),
    /** A number or a name. */
    port: given(intOrText()),
    endPort: given(integer({ readable: int32 })),
  }));

const fields = object({
  spec: always(object({
    stagedAction: text({ oneOf: ["Set", "Delete", "Learn", "Ignore"], default: "Set" }),
    podSelector: always(labelSelector()),
    ingress: list(object({ ports: ports(), from: peers() })),
    egress: list(object({ ports: ports(), to: peers() })),
    policyTypes: list(text(), { maxItems: 2 }),
  })),
});

/** A Kubernetes NetworkPolicySpec, and what is to be done with it. */
export type StagedKubernetesNetworkPolicySpec = Of<typeof fields>["spec"];
/** A Kubernetes NetworkPolicy that is calculated and reported, not enforced. */
export type StagedKubernetesNetworkPolicy = Resource<StagedKubernetesNetworkPolicySpec>;

/** The kind. */
export const stagedKubernetesNetworkPolicy = defineKind<StagedKubernetesNetworkPolicy>({
  kind: "StagedKubernetesNetworkPolicy",
  plural: "stagedkubernetesnetworkpolicies",
  shortNames: ["stagedkubernetespolicy", "stagedkubernetespolicies", "sknp", "skpol", "skpols"],
  namespaced: true,
  fields,
  check({ metadata, spec }, refuse) {
    const over = metadata.name.length - maxNameLength;
    if (over > 0) refuse("Metadata.Name", `name is too long by ${over} bytes`, metadata.name);
    if (spec.stagedAction !== "Delete") return checkPorts(spec, refuse);
    const { stagedAction: _, podSelector, ...rest } = spec;
    const said = Object.keys(podSelector).length > 0 ||
      Object.values(rest).some((v) => v !== undefined);
    const reason = "Spec fields should all be zero-value if stagedAction is Delete";
    if (said) refuse("StagedKubernetesNetworkPolicySpec", reason, spec);
  },
  columns: [nameColumn, specColumn("PODSELECTOR", (spec) => JSON.stringify(spec.podSelector), "wide")],
  example: {
    metadata: { name: "allow-web", namespace: "shop" },
    spec: {
      stagedAction: "Set",
      podSelector: { matchLabels: { app: "web" } },
      ingress: [{ ports: [{ protocol: "TCP", port: 80 }] }],
      policyTypes: ["Ingress"],
    },
  },
});

/** The ports must be such as Calico's policies can have. */
function checkPorts({ ingress = [], egress = [] }: StagedKubernetesNetworkPolicySpec, refuse: Refuse): void {
  for (const { port, endPort } of [...ingress, ...egress].flatMap((rule) => rule.ports ?? [])) {
    if (port === undefined) continue;
    const text = endPort === undefined ? String(port) : `${port}:${endPort}`;
    if (readPort(text) !== undefined) continue;
    refuse("PolicySpec", `conversion to stagednetworkpolicy failed: invalid port ${text}`, text);
  }
}
