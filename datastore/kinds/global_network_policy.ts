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
} from "./_policy.ts";
import { tierExists } from "./_references.ts";

const fields = object({
  spec: always(object({
    ...policyMembers,
    ...globalMembers,
    serviceAccountSelector: lastMembers.serviceAccountSelector,
    ...namespaceSelector,
    performanceHints: lastMembers.performanceHints,
  })),
});

/** Whom it selects and what it allows. */
export type GlobalNetworkPolicySpec = Of<typeof fields>["spec"];
/** Rules for endpoints of all namespaces and of hosts. */
export type GlobalNetworkPolicy = Resource<GlobalNetworkPolicySpec>;

/** The kind. */
export const globalNetworkPolicy = defineKind<GlobalNetworkPolicy>({
  kind: "GlobalNetworkPolicy",
  plural: "globalnetworkpolicies",
  shortNames: ["gnp", "gnps", "cgnp"],
  namespaced: false,
  isPolicy: true,
  fields,
  defaults: (policy) => policyDefaults(policy, false),
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
