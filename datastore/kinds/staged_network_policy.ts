import { always, object } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { networkPolicyPattern } from "../names.ts";
import type { Of } from "../schema/schema.ts";
import {
  checkPolicyName,
  checkPolicySchema,
  checkPolicySpec,
  lastMembers,
  policyColumns,
  policyDefaults,
  policyMembers,
  showTier,
  stagedMembers,
} from "./_policy.ts";
import { tierExists } from "./_references.ts";

const fields = object({
  spec: always(object({
    ...stagedMembers,
    ...policyMembers,
    serviceAccountSelector: lastMembers.serviceAccountSelector,
    performanceHints: lastMembers.performanceHints,
  })),
});

/** What the policy would be. */
export type StagedNetworkPolicySpec = Of<typeof fields>["spec"];
/** A NetworkPolicy that is calculated and reported, not enforced. */
export type StagedNetworkPolicy = Resource<StagedNetworkPolicySpec>;

/** The kind. */
export const stagedNetworkPolicy = defineKind<StagedNetworkPolicy>({
  kind: "StagedNetworkPolicy",
  plural: "stagednetworkpolicies",
  shortNames: ["stagedpolicy", "stagedpolicies", "snp", "scnp", "spol", "spols"],
  namespaced: true,
  isPolicy: true,
  fields,
  defaults: (policy) => policyDefaults(policy, true),
  onRead: showTier,
  needs: ({ spec }, old) => tierExists(spec.tier, old?.spec.tier),
  check({ metadata, spec }, refuse) {
    checkPolicyName(metadata, networkPolicyPattern, refuse);
    checkPolicySpec(spec, "NetworkPolicySpec", false, refuse);
  },
  checkSchema: ({ spec }, refuse) => checkPolicySchema(spec, refuse),
  columns: policyColumns,
  example: {
    metadata: { name: "allow-web", namespace: "shop" },
    spec: {
      stagedAction: "Set",
      selector: "app == 'web'",
      ingress: [{
        action: "Allow",
        protocol: "TCP",
        source: { selector: "role == 'lb'" },
        destination: { ports: [80] },
      }],
    },
  },
});
