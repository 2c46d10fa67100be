import { always, anything, given, integer, list, map, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { maxNameLength } from "../names.ts";
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
    port: given(anything()),
    endPort: given(integer()),
  }));

const fields = object({
  spec: always(object({
    stagedAction: text({ oneOf: ["Set", "Delete", "Learn", "Ignore"], default: "Set" }),
    podSelector: always(labelSelector()),
    ingress: list(object({ ports: ports(), from: peers() })),
    egress: list(object({ ports: ports(), to: peers() })),
    policyTypes: list(text()),
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
    if (spec.stagedAction !== "Delete") return;
    const { stagedAction: _, podSelector, ...rest } = spec;
    const said = Object.keys(podSelector).length > 0 ||
      Object.values(rest).some((v) => Array.isArray(v) && v.length > 0);
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
