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
} from "./_policy.ts";
import { tierExists } from "./_references.ts";

const fields = object({
  spec: always(object({
    ...policyMembers,
    serviceAccountSelector: lastMembers.serviceAccountSelector,
    performanceHints: lastMembers.performanceHints,
  })),
});

/** Whom it selects and what it allows. */
export type NetworkPolicySpec = Of<typeof fields>["spec"];
/** Rules for the endpoints of one namespace. */
export type NetworkPolicy = Resource<NetworkPolicySpec>;

/** The kind. */
export const networkPolicy = defineKind<NetworkPolicy>({
  kind: "NetworkPolicy",
  plural: "networkpolicies",
  shortNames: ["policy", "policies", "np", "pol", "pols"],
  namespaced: true,
  isPolicy: true,
  fields,
  defaults: (policy) => policyDefaults(policy, false),
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
