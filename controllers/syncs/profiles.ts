import { maxLabelLength } from "../../datastore/names.ts";
import type { Resource } from "../../datastore/kind.ts";
import { profileOfNamespace, profileOfServiceAccount } from "../../datastore/kubernetes/profile.ts";
import { namespaces, serviceAccounts } from "../sources.ts";
import { type Made, OwnedObjects } from "./owned.ts";
import type { Sync } from "./sync.ts";

/** Namespace → profile `kns.<name>`. */
export const namespaceSync = (): Sync =>
  new OwnedObjects({
    name: "namespace",
    source: namespaces,
    kind: "Profile",
    prefix: "kns.",
    origin: { apiVersion: "v1", kind: "Namespace" },
    identityOf: ({ name }) => ({ name: `kns.${name}` }),
    make: (object) => storable(profileOfNamespace(object)),
  });

/** ServiceAccount → profile `ksa.<namespace>.<name>`. */
export const serviceAccountSync = (): Sync =>
  new OwnedObjects({
    name: "serviceaccount",
    source: serviceAccounts,
    kind: "Profile",
    prefix: "ksa.",
    origin: { apiVersion: "v1", kind: "ServiceAccount" },
    identityOf: ({ name, namespace }) => ({ name: `ksa.${namespace || "default"}.${name}` }),
    make: (object) => storable(profileOfServiceAccount(object)),
  });

/**
 * The profile without values that no label can have: an account's own name may be longer. DIFFERS: Calico cannot store
 * the profile then, and pods of the account talk to nobody.
 */
function storable(profile: Resource): Made {
  const labels = Object.entries(profile.spec.labelsToApply as Record<string, string>);
  const [fit, unfit] = [
    labels.filter(([, value]) => value.length <= maxLabelLength),
    labels.filter(([, value]) => value.length > maxLabelLength),
  ];
  const problems = unfit.map(([name]) => `label ${name}: its value is longer than ${maxLabelLength}, it is left out`);
  return { resource: { ...profile, spec: { ...profile.spec, labelsToApply: Object.fromEntries(fit) } }, problems };
}
