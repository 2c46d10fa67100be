import { always, object } from "../schema/fields.ts";
import { defineKind, type Kind, type Resource } from "../kind.ts";
import { globalPolicyPattern, networkPolicyPattern } from "../names.ts";
import type { Members, ObjectOf } from "../schema/schema.ts";
import {
  type AnyPolicySpec,
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

const { serviceAccountSelector, performanceHints } = lastMembers;
/** In the order in which Calico writes them. */
const ofNamespace = { ...policyMembers, serviceAccountSelector, performanceHints };
const ofCluster = {
  ...policyMembers,
  ...globalMembers,
  serviceAccountSelector,
  ...namespaceSelector,
  performanceHints,
};

/** Rules for the endpoints of one namespace. */
export type NetworkPolicy = Resource<ObjectOf<typeof ofNamespace>>;
/** Rules for endpoints of all namespaces and of hosts. */
export type GlobalNetworkPolicy = Resource<ObjectOf<typeof ofCluster>>;
/** A NetworkPolicy that is calculated and reported, not enforced. */
export type StagedNetworkPolicy = Resource<ObjectOf<typeof stagedMembers & typeof ofNamespace>>;
/** A GlobalNetworkPolicy that is calculated and reported, not enforced. */
export type StagedGlobalNetworkPolicy = Resource<ObjectOf<typeof stagedMembers & typeof ofCluster>>;

/** The kind of NetworkPolicy. */
export const networkPolicy: Kind<NetworkPolicy> = policyKind({
  kind: "NetworkPolicy",
  plural: "networkpolicies",
  shortNames: ["policy", "policies", "np", "pol", "pols"],
  members: ofNamespace,
});

/** The kind of GlobalNetworkPolicy. */
export const globalNetworkPolicy: Kind<GlobalNetworkPolicy> = policyKind({
  kind: "GlobalNetworkPolicy",
  plural: "globalnetworkpolicies",
  shortNames: ["gnp", "gnps", "cgnp"],
  members: ofCluster,
});

/** The kind of StagedNetworkPolicy. */
export const stagedNetworkPolicy: Kind<StagedNetworkPolicy> = policyKind({
  kind: "StagedNetworkPolicy",
  plural: "stagednetworkpolicies",
  shortNames: ["stagedpolicy", "stagedpolicies", "snp", "scnp", "spol", "spols"],
  members: { ...stagedMembers, ...ofNamespace },
});

/** The kind of StagedGlobalNetworkPolicy. */
export const stagedGlobalNetworkPolicy: Kind<StagedGlobalNetworkPolicy> = policyKind({
  kind: "StagedGlobalNetworkPolicy",
  plural: "stagedglobalnetworkpolicies",
  shortNames: ["sgnp", "sgnps"],
  members: { ...stagedMembers, ...ofCluster },
});

/** A policy kind from what tells it from the others; members of the cluster and of staged ones decide its rules. */
function policyKind<Spec extends AnyPolicySpec>(
  { members, ...names }: { kind: string; plural: string; shortNames: string[]; members: Members },
): Kind<Resource<Spec>> {
  const isStaged = "stagedAction" in members, isGlobal = "doNotTrack" in members;
  return defineKind<Resource<Spec>>({
    ...names,
    namespaced: !isGlobal,
    isPolicy: true,
    fields: object({ spec: always(object(members)) }),
    defaults: (policy) => policyDefaults(policy, isStaged),
    onRead: showTier,
    needs: ({ spec }, old) => tierExists(spec.tier, old?.spec.tier),
    check({ metadata, spec }, refuse) {
      checkPolicyName(metadata, isGlobal ? globalPolicyPattern : networkPolicyPattern, refuse);
      checkPolicySpec(spec, isGlobal ? "GlobalNetworkPolicySpec" : "NetworkPolicySpec", isGlobal, refuse);
    },
    checkSchema: ({ spec }, refuse) => checkPolicySchema(spec, refuse),
    columns: policyColumns,
    example: {
      metadata: isGlobal ? { name: "allow-web" } : { name: "allow-web", namespace: "shop" },
      spec: {
        ...(isStaged ? { stagedAction: "Set" } : {}),
        selector: "app == 'web'",
        ingress: [{
          action: "Allow",
          protocol: "TCP",
          source: { selector: "role == 'lb'" },
          destination: { ports: [80] },
        }],
      } as Spec,
    },
  });
}
