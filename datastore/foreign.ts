import { identify, notSupported } from "./problems.ts";
import type { Resource } from "./kind.ts";

/** Writing commands, with what calicoctl calls them when it refuses one. */
const operations = {
  create: "create or apply",
  apply: "apply",
  replace: "apply or replace",
  patch: "apply or replace",
  label: "apply or replace",
  delete: "delete",
};

/** Begins the names of policies that Calico's controllers copy from Kubernetes. */
const copiedPolicy = "knp.default.";

/** @throws Problem "unsupported" for what others keep: the cluster's own facts, and copies of Kubernetes' policies. */
export function refuseForeign({ kind, metadata }: Resource, verb: keyof typeof operations): void {
  const operation = operations[verb];
  if (kind === "ClusterInformation") {
    throw notSupported(operation, kind, verb === "apply" ? "resource is readonly" : undefined);
  }
  if (kind !== "NetworkPolicy" || !metadata.name.startsWith(copiedPolicy)) return;
  const why = "kubernetes network policies must be managed through the kubernetes API";
  throw notSupported(operation, identify(kind, metadata.name, metadata.namespace), why);
}
