import { always, object } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { globalPolicyPattern } from "../names.ts";
import type { Of } from "../schema/schema.ts";
import {
  checkPolicyName,
  checkPolicySchema,
  checkPolicySpec,
  globalMembers,
  lastMembers,
  namespaceSelector,
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
    ...globalMembers,
    serviceAccountSelector: lastMembers.serviceAccountSelector,
    ...namespaceSelector,
    performanceHints: lastMembers.performanceHints,
  })),
});

/** What the policy would be. */
export type StagedGlobalNetworkPolicySpec = Of<typeof fields>["spec"];
/** A GlobalNetworkPolicy that is calculated and reported, not enforced. */
export type StagedGlobalNetworkPolicy = Resource<StagedGlobalNetworkPolicySpec>;

/** The kind. */
export const stagedGlobalNetworkPolicy = defineKind<StagedGlobalNetworkPolicy>({
  kind: "StagedGlobalNetworkPolicy",
  plural: "stagedglobalnetworkpolicies",
  shortNames: ["sgnp", "sgnps"],
  namespaced: false,
  isPolicy: true,
  fields,
  defaults: (policy) => policyDefaults(policy, true),
  onRead: showTier,
  needs: ({ spec }, old) => tierExists(spec.tier, old?.spec.tier),
  check({ metadata, spec }, refuse) {
    checkPolicyName(metadata, globalPolicyPattern, refuse);
    checkPolicySpec(spec, "GlobalNetworkPolicySpec", true, refuse);
  },
  checkSchema: ({ spec }, refuse) => checkPolicySchema(spec, refuse),
  columns: policyColumns,
  example: {
    metadata: { name: "allow-web" },
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
