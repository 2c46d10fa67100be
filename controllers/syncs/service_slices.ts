import { isObject, type Json } from "../../lib/json64.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix, resourceKey } from "../../datastore/keys.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import type { KubernetesEndpointSlice } from "../../datastore/kinds/kubernetes_endpoint_slice.ts";
import type { Batch } from "../../datastore/kubernetes/reflector.ts";
import type { Changes } from "../../datastore/mirror.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { endpointSlices, type KeptSlice } from "../sources.ts";
import { type Have, type Step, stepTo } from "./step.ts";
import type { Sync } from "./sync.ts";

/** Kinds whose rules can name Services. */
const policyPrefixes = ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"]
  .map((kind) => kindPrefix(kind));
const below = kindPrefix("KubernetesEndpointSlice");
const serviceLabel = "kubernetes.io/service-name";

/** Services that a policy's rules name, as `namespace/name`; none for what is no policy or cannot be read. */
export function servicesIn(kv: KeyValue): string[] {
  // Most policies name none, and reading all of them costs more than looking for the word.
  if (!kv.value.includes('"services"')) return [];
  const policy = decodeResource(kv);
  if (!policy || isUndecodable(policy)) return [];
  const { metadata, spec } = policy as Resource<{ [member: string]: Json }>;
  const rules = [spec.ingress, spec.egress].flatMap((list) => Array.isArray(list) ? list : []);
  const sides = rules.flatMap((rule) => isObject(rule) ? [rule.source, rule.destination] : []);
  return sides.flatMap((side) => {
    const service = isObject(side) && isObject(side.services) ? side.services : {};
    return service.name ? [`${service.namespace || metadata.namespace || ""}/${service.name}`] : [];
  });
}

/**
 * Copies the EndpointSlices of those Services that some policy in etcd names, and no others: agents read etcd alone.
 * DIFFERS: with etcd, Calico's Felix knows no Services, and such rules match nobody.
 */
class ServiceSlices implements Sync {
  readonly name = "services";
  readonly sources = [endpointSlices];
  #slices = new Map<string, KeptSlice>();
  /** Keys of slices by their Service. */
  #ofService = new Map<string, Set<string>>();
  /** Services by the policy that names them, and how many policies name each. */
  readonly #namedBy = new Map<string, Set<string>>();
  readonly #names = new Map<string, number>();

  kubernetes(given: Batch<unknown>): string[] {
    const batch = given as Batch<KeptSlice>;
    if ("all" in batch) {
      const before = this.#slices;
      this.#slices = new Map();
      this.#ofService = new Map();
      for (const slice of batch.all) this.#put(slice);
      return [...new Set([...before.keys(), ...this.#slices.keys()])];
    }
    return batch.changes.map(({ object, gone }) => {
      this.#forget(keyOf(object));
      if (!gone) this.#put(object);
      return keyOf(object);
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    const policies = set.filter(({ key }) => isPolicy(key));
    const services = [
      ...policies.flatMap((kv) => this.#name(kv.key, servicesIn(kv))),
      ...deleted.filter(isPolicy).flatMap((key) => this.#name(key, [])),
    ];
    const keys = services.flatMap((service) => [...this.#ofService.get(service) ?? []]);
    return [...keys, ...[...set.map(({ key }) => key), ...deleted].filter((key) => key.startsWith(below))];
  }

  step(key: string, have: Have): Step {
    const slice = this.#slices.get(key);
    const isNamed = slice && this.#names.has(serviceOf(slice) ?? "");
    const want = isNamed ? copyOf(slice) : undefined, step = stepTo(want, have);
    if (!want || !have || "undecodable" in have) return step;
    const stored = have as Resource, { labels } = want.metadata;
    if (stored.metadata.labels?.[serviceLabel] === labels![serviceLabel]) return step;
    return { do: "update", resource: { ...want, metadata: { ...stored.metadata, labels } } };
  }

  /** A policy names these Services now; answers those that begin or cease to be named. */
  #name(policy: string, services: string[]): string[] {
    const before = this.#namedBy.get(policy) ?? new Set(), now = new Set(services);
    if (now.size > 0) this.#namedBy.set(policy, now);
    else this.#namedBy.delete(policy);
    const changed: string[] = [];
    for (const service of now.difference(before)) {
      const count = (this.#names.get(service) ?? 0) + 1;
      this.#names.set(service, count);
      if (count === 1) changed.push(service);
    }
    for (const service of before.difference(now)) {
      const count = this.#names.get(service)! - 1;
      if (count > 0) this.#names.set(service, count);
      else {
        this.#names.delete(service);
        changed.push(service);
      }
    }
    return changed;
  }

  #put(slice: KeptSlice): void {
    const key = keyOf(slice), service = serviceOf(slice);
    this.#slices.set(key, slice);
    if (service) this.#ofService.set(service, (this.#ofService.get(service) ?? new Set()).add(key));
  }

  #forget(key: string): void {
    const slice = this.#slices.get(key);
    this.#slices.delete(key);
    const service = slice && serviceOf(slice);
    if (service) this.#ofService.get(service)?.delete(key);
  }
}

const isPolicy = (key: string): boolean => policyPrefixes.some((prefix) => key.startsWith(prefix));
const keyOf = ({ metadata }: KeptSlice): string =>
  resourceKey("KubernetesEndpointSlice", metadata.name, metadata.namespace);
const serviceOf = ({ metadata, service }: KeptSlice): string | undefined =>
  service ? `${metadata.namespace}/${service}` : undefined;

function copyOf({ metadata: { name, namespace }, service, addressType, endpoints, ports }: KeptSlice): Resource {
  const labels = { [serviceLabel]: service! };
  const copy: KubernetesEndpointSlice = {
    kind: "KubernetesEndpointSlice",
    apiVersion,
    metadata: { name, namespace, labels },
    spec: {},
    // Names of hosts are no addresses: nothing of them can be matched.
    ...(addressType === "FQDN" ? {} : { addressType, endpoints, ports }),
  };
  return copy as unknown as Resource;
}

/** The controller of what `services` in rules need. */
export const serviceSliceSync = (): Sync => new ServiceSlices();
