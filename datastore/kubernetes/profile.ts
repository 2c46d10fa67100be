import { apiVersion, type Resource } from "../kind.ts";
import { derivedUid } from "./derived_uid.ts";
import type { PodMetadata } from "./pod.ts";

/** A Namespace or a ServiceAccount, as far as we read it. */
export interface LabelledObject {
  metadata: PodMetadata;
}

/**
 * The profile of a namespace: pods inherit its labels as `pcns.<label>`, and it allows what no policy speaks about.
 * @throws Problem "bad-input" for a UID that is none. Source: Calico …/k8s/conversion/conversion.go NamespaceToProfile.
 */
export function profileOfNamespace({ metadata }: LabelledObject): Resource {
  const { name, uid, creationTimestamp, labels } = metadata;
  const allow = [{ action: "Allow" }];
  const spec = { ingress: allow, egress: allow, labelsToApply: prefixed("pcns.", labels, name) };
  return profile(`kns.${name}`, { uid, creationTimestamp }, spec);
}

/**
 * The profile of a service account: labels alone, as `pcsa.<label>`.
 * @throws Problem "bad-input" for a UID that is none. Source: as above, ServiceAccountToProfile.
 */
export function profileOfServiceAccount({ metadata }: LabelledObject): Resource {
  const { name, namespace, uid, creationTimestamp, labels } = metadata;
  const spec = { labelsToApply: prefixed("pcsa.", labels, name) };
  return profile(`ksa.${namespace || "default"}.${name}`, { uid, creationTimestamp }, spec);
}

function profile(
  name: string,
  { uid, creationTimestamp }: Pick<PodMetadata, "uid" | "creationTimestamp">,
  spec: Record<string, unknown>,
): Resource {
  const metadata = {
    name,
    ...(uid && { uid: derivedUid(uid) }),
    ...(creationTimestamp && { creationTimestamp }),
  };
  return { kind: "Profile", apiVersion, metadata, spec };
}

/** Its own name wins over a label that is called so. */
const prefixed = (prefix: string, labels: Record<string, string> | null | undefined, name: string) =>
  Object.fromEntries([
    ...Object.entries(labels ?? {}).map(([key, value]) => [prefix + key, value]),
    [`${prefix}projectcalico.org/name`, name],
  ]);
