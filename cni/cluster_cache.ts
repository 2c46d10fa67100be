import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { ClusterObject, KubernetesClient } from "../datastore/kubernetes/client.ts";
import { Followed } from "../datastore/kubernetes/followed.ts";
import type { Pod, PodContainer } from "../datastore/kubernetes/pod.ts";
import type { KubernetesObject, ReflectorState } from "../datastore/kubernetes/reflector.ts";

/** What a cache is made of. */
export interface ClusterCacheOptions {
  client: KubernetesClient;
  /** Kubernetes' name of this node: its pods are followed. */
  node: string;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/**
 * Pods of this node and all namespaces, followed, so that an ADD asks the API server nothing that it has told already, and
 * is served while the server is away. Whoever may not list them (an account of Calico's plugin may only get) is served by
 * one GET for each question, as without this.
 * DIFFERS: Calico's plugin asks for both at each ADD, and fails when the server does not answer.
 */
export class ClusterCache implements AsyncDisposable {
  readonly #options: ClusterCacheOptions;
  readonly #pods: Followed<Pod>;
  readonly #namespaces: Followed<ClusterObject>;
  readonly #connections: KubernetesClient[];
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[];

  constructor(options: ClusterCacheOptions) {
    this.#options = options;
    const { client, node, clock, log, random } = options;
    // One connection each: a dead one costs one watch.
    const [ofPods, ofNamespaces] = [client.another(), client.another()];
    this.#connections = [ofPods, ofNamespaces];
    const where = `fieldSelector=${encodeURIComponent(`spec.nodeName=${node}`)}`;
    this.#pods = new Followed({ api: ofPods, path: "/api/v1/pods", where, keep: keptPod, clock, log, random });
    this.#namespaces = new Followed({
      ...{ api: ofNamespaces, path: "/api/v1/namespaces", keep: keptNamespace, clock, log, random },
    });
    this.#loops = [this.#follow(this.#pods), this.#follow(this.#namespaces)];
  }

  /**
   * The pod that a runtime makes a sandbox for. What is known counts when it is the same pod by its UID; else the server is
   * asked, for a pod that was made anew under the same name may have other labels.
   * @param uid "" when the runtime does not tell it: then what is known counts only while the server does not answer.
   * @throws Problem of KubernetesClient.
   */
  async pod(namespace: string, name: string, uid: string): Promise<Pod> {
    const known = this.#pods.get(namespace, name);
    if (known && isSame(known, uid)) return known;
    try {
      return await this.#options.client.pod(namespace, name);
    } catch (error) {
      if (!known || uid !== "" || !isProblem(error, "unavailable")) throw error;
      return known;
    }
  }

  /** A namespace. @throws Problem of KubernetesClient, when it is not known. */
  async namespace(name: string): Promise<ClusterObject> {
    return this.#namespaces.get("", name) ?? await this.#options.client.namespace(name);
  }

  /** How far it knows, for people. */
  state(): Record<"pods" | "namespaces", ReflectorState & { objects: number }> {
    return { pods: this.#pods.state(), namespaces: this.#namespaces.state() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the agent ends"));
    await Promise.all(this.#loops);
    for (const connection of this.#connections) connection[Symbol.dispose]();
  }

  async #follow(collection: Followed<Pod> | Followed<ClusterObject>): Promise<void> {
    const { log } = this.#options;
    try {
      await collection.run(this.#stop.signal);
    } catch (error) {
      log.error("a collection of Kubernetes is not followed any more, its objects are asked for", {
        why: messageOf(error),
      });
    }
  }
}

/** The caches of the configurations that calls came with. */
export class ClusterCaches implements AsyncDisposable {
  readonly #caches = new Map<KubernetesClient, ClusterCache>();

  constructor(private readonly deps: Omit<ClusterCacheOptions, "client" | "node">) {}

  /** The cache behind a client; it begins to follow at the first call. @param node counts then. */
  of(client: KubernetesClient, node: string): ClusterCache {
    const known = this.#caches.get(client);
    if (known) return known;
    const made = new ClusterCache({ ...this.deps, client, node });
    this.#caches.set(client, made);
    return made;
  }

  /** How each stands, for people. */
  states(): ReturnType<ClusterCache["state"]>[] {
    return [...this.#caches.values()].map((cache) => cache.state());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#caches.values()].map((cache) => cache[Symbol.asyncDispose]()));
  }
}

/** The API's copy of a static pod has a UID of its own; the runtime is told the hash of the pod's file. */
const isSame = ({ metadata }: Pod, uid: string): boolean =>
  uid !== "" && (metadata.uid === uid || metadata.annotations?.["kubernetes.io/config.hash"] === uid);

/** What an endpoint is made of: the rest of a pod is the larger part. */
function keptPod(object: KubernetesObject): Pod {
  const { metadata, spec } = object as Pod;
  const ports = (list: PodContainer[] | null | undefined) => (list ?? []).map(({ ports }) => ({ ports }));
  const { name, namespace, uid, generateName, labels, annotations } = metadata;
  return {
    metadata: { name, namespace, uid, generateName, labels, annotations: withoutCopies(annotations) },
    spec: {
      serviceAccountName: spec?.serviceAccountName,
      containers: ports(spec?.containers),
      initContainers: ports(spec?.initContainers),
    },
  };
}

function keptNamespace({ metadata }: KubernetesObject): ClusterObject {
  const { name, uid, labels, annotations } = metadata;
  return { metadata: { name, uid, labels, annotations: withoutCopies(annotations) } };
}

/** Without what kubectl keeps there: a copy of the whole object. */
function withoutCopies(annotations: Record<string, string> | null | undefined): Record<string, string> | undefined {
  if (!annotations) return undefined;
  const { "kubectl.kubernetes.io/last-applied-configuration": _, ...rest } = annotations;
  return rest;
}
