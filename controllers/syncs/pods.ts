import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix } from "../../datastore/keys.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { sameIp, tryParseCidrOrIp } from "../../lib/ip.ts";
import { sameJson } from "../../lib/json64.ts";
import type { Batch } from "../../datastore/kubernetes/reflector.ts";
import { type KeptPod, pods } from "../sources.ts";
import type { Have, Step } from "./step.ts";
import { idOf, type Sync } from "./sync.ts";

const nothing: Step = { do: "nothing" };

/**
 * Labels and service account of pods → their endpoints, which the CNI plugin makes and deletes. An endpoint that has none of
 * the pod's addresses is that of an earlier pod of the same name, and is left alone.
 * DIFFERS: Calico writes every queued endpoint, and takes an endpoint for a pod's by its name alone.
 */
class PodLabels implements Sync {
  readonly name = "workloadendpoint";
  readonly sources = [pods];
  #pods = new Map<string, KeptPod>();
  readonly #endpoints = new Map<string, Set<string>>();
  readonly #podOf = new Map<string, string>();
  readonly #below = kindPrefix("WorkloadEndpoint");

  kubernetes(given: Batch<unknown>): string[] {
    const batch = given as Batch<KeptPod>;
    if ("all" in batch) {
      this.#pods = new Map(batch.all.map((pod) => [idOf(pod), pod]));
      return [...this.#podOf.keys()];
    }
    return batch.changes.flatMap(({ object, gone }) => {
      const id = idOf(object);
      if (gone) this.#pods.delete(id);
      else this.#pods.set(id, object);
      return [...this.#endpoints.get(id) ?? []];
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    for (const key of deleted) this.#forget(key);
    return set.filter((kv) => kv.key.startsWith(this.#below)).flatMap((kv) => {
      this.#forget(kv.key);
      const endpoint = decodeResource(kv);
      if (!endpoint || isUndecodable(endpoint)) return [];
      const { metadata, spec } = endpoint as WorkloadEndpoint;
      if (spec.orchestrator !== "k8s" || !spec.pod) return [];
      const id = `${metadata.namespace ?? ""}/${spec.pod}`;
      this.#podOf.set(kv.key, id);
      this.#endpoints.set(id, (this.#endpoints.get(id) ?? new Set()).add(kv.key));
      return [kv.key];
    });
  }

  step(key: string, have: Have): Step {
    const pod = this.#pods.get(this.#podOf.get(key) ?? "");
    if (!pod || !have || "undecodable" in have) return nothing;
    const endpoint = have as WorkloadEndpoint;
    const { ipNetworks = [], serviceAccountName } = endpoint.spec;
    if (pod.hostNetwork || !haveOneInCommon(pod.addresses, ipNetworks)) return nothing;
    const { account } = pod;
    const isSame = sameJson(endpoint.metadata.labels ?? {}, pod.labels) &&
      (serviceAccountName || undefined) === account;
    if (isSame) return nothing;
    const metadata = { ...endpoint.metadata, labels: pod.labels };
    const spec = { ...endpoint.spec, serviceAccountName: account };
    return { do: "update", resource: { ...endpoint, metadata, spec } };
  }

  #forget(key: string): void {
    const id = this.#podOf.get(key);
    if (id === undefined) return;
    this.#podOf.delete(key);
    const keys = this.#endpoints.get(id);
    keys?.delete(key);
    if (keys?.size === 0) this.#endpoints.delete(id);
  }
}

function haveOneInCommon(addresses: string[], networks: string[]): boolean {
  const [some, others] = [addresses, networks].map((texts) =>
    texts.map(tryParseCidrOrIp).filter((c) => c !== undefined)
  );
  return some!.some((a) => others!.some((b) => sameIp(a, b)));
}

/** The controller of pods' labels. */
export const podSync = (): Sync => new PodLabels();
