import { profileOfNamespace, profileOfServiceAccount } from "../../datastore/kubernetes/profile.ts";
import { namespaces, serviceAccounts } from "../sources.ts";
import { OwnedObjects } from "./owned.ts";
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
    make: (object) => ({ resource: profileOfNamespace(object), problems: [] }),
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
    make: (object) => ({ resource: profileOfServiceAccount(object), problems: [] }),
  });
