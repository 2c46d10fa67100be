import type { Changes } from "../datastore/mirror.ts";
import { kindPrefix, resourceKey } from "../datastore/keys.ts";
import type { Metadata, Resource } from "../datastore/kind.ts";
import { type NetworkPolicy, storedPolicyName, storedPolicyOf } from "../datastore/kubernetes/network_policy.ts";
import { type LabelledObject, profileOfNamespace, profileOfServiceAccount } from "../datastore/kubernetes/profile.ts";
import type { Batch, KubernetesObject } from "../datastore/kubernetes/reflector.ts";
import { type Have, problemsAnnotation, type Step, stepTo } from "./step.ts";
import type { Sync } from "./sync.ts";

/** A kind of object that is made of one of Kubernetes, one for one, and known as ours by how its name begins. */
interface Owned<T extends KubernetesObject> {
  name: string;
  path: string;
  kind: string;
  prefix: string;
  keep(object: KubernetesObject): T;
  /** Name and namespace of what is made of it. */
  identityOf(metadata: T["metadata"]): Pick<Metadata, "name" | "namespace">;
  /** What is made of it. */
  make(object: T): Resource;
}

/** Keeps what is made of Kubernetes' objects as it should be; everything with our prefix that has no origin goes. */
class OwnedObjects<T extends KubernetesObject> implements Sync<T> {
  readonly name: string;
  readonly path: string;
  readonly keep: (object: KubernetesObject) => T;
  #origins = new Map<string, T>();
  readonly #below: string;

  constructor(private readonly owned: Owned<T>) {
    ({ name: this.name, path: this.path, keep: this.keep } = owned);
    this.#below = kindPrefix(owned.kind);
  }

  kubernetes(batch: Batch<T>): string[] {
    if ("all" in batch) {
      const before = this.#origins;
      this.#origins = new Map(batch.all.map((object) => [this.#keyOf(object), object]));
      return [...new Set([...before.keys(), ...this.#origins.keys()])];
    }
    return batch.changes.map(({ object, gone }) => {
      const key = this.#keyOf(object);
      if (gone) this.#origins.delete(key);
      else this.#origins.set(key, object);
      return key;
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    return [...set.map((kv) => kv.key), ...deleted].filter((key) => this.#isOurs(key));
  }

  step(key: string, have: Have): Step {
    const origin = this.#origins.get(key);
    return stepTo(origin && this.owned.make(origin), have);
  }

  #keyOf({ metadata }: T): string {
    const { name, namespace } = this.owned.identityOf(metadata);
    return resourceKey(this.owned.kind, name, namespace);
  }

  #isOurs(key: string): boolean {
    return key.startsWith(this.#below) && key.slice(key.lastIndexOf("/") + 1).startsWith(this.owned.prefix);
  }
}

/** Name, labels and version: all that profiles need. The origin's UID and age are not written, as Calico does not. */
const labelled = ({ metadata: { name, namespace, labels } }: KubernetesObject): LabelledObject & KubernetesObject => ({
  metadata: { name, namespace, labels },
});

/** NetworkPolicy → `knp.default.<name>`. What cannot be followed allows nothing, and is said in an annotation. */
export const policySync = (): Sync =>
  new OwnedObjects<NetworkPolicy>({
    name: "policy",
    path: "/apis/networking.k8s.io/v1/networkpolicies",
    kind: "NetworkPolicy",
    prefix: storedPolicyName(""),
    keep: (object) => ({
      metadata: { name: object.metadata.name, namespace: object.metadata.namespace },
      spec: (object as NetworkPolicy).spec,
    }),
    identityOf: ({ name, namespace }) => ({ name: storedPolicyName(name), namespace }),
    make(object) {
      const { policy, problems } = storedPolicyOf(object);
      if (problems.length === 0) return policy;
      const annotations = { [problemsAnnotation]: problems.join("; ") };
      return { ...policy, metadata: { ...policy.metadata, annotations } };
    },
  }) as Sync;

/** Namespace → profile `kns.<name>`. */
export const namespaceSync = (): Sync =>
  new OwnedObjects({
    name: "namespace",
    path: "/api/v1/namespaces",
    kind: "Profile",
    prefix: "kns.",
    keep: labelled,
    identityOf: ({ name }) => ({ name: `kns.${name}` }),
    make: profileOfNamespace,
  }) as Sync;

/** ServiceAccount → profile `ksa.<namespace>.<name>`. */
export const serviceAccountSync = (): Sync =>
  new OwnedObjects({
    name: "serviceaccount",
    path: "/api/v1/serviceaccounts",
    kind: "Profile",
    prefix: "ksa.",
    keep: labelled,
    identityOf: ({ name, namespace }) => ({ name: `ksa.${namespace || "default"}.${name}` }),
    make: profileOfServiceAccount,
  }) as Sync;
