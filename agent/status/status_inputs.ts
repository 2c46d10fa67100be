import { tryParseCidrOrIp } from "../../lib/ip.ts";
import { isObject } from "../../lib/json64.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix, parseKey, resourceKey } from "../../datastore/keys.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { isEndpointOf, parseEndpointName } from "../../datastore/names.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { FelixSources } from "../felix_sources.ts";
import type { SettingProblem } from "../settings.ts";
import type { HostEndpoint, Workload } from "./endpoint_states.ts";
import { type StatusSettings, statusSettings } from "./settings.ts";

type Spec = Record<string, unknown>;

/** This node's endpoints and the parameters of its reports, followed through the mirror's changes. */
export class StatusInputs {
  readonly #node: string;
  readonly #felix: FelixSources;
  readonly #workloads = new Map<string, Workload>();
  readonly #hosts = new Map<string, HostEndpoint>();
  #ready = false;

  constructor(node: string, env: (name: string) => string | undefined) {
    this.#node = node;
    this.#felix = new FelixSources(node, env);
  }

  /** Takes a step of the mirror; a value that cannot be read leaves its last good one. @returns whether anything changed. */
  update(changes: Pick<Changes, "set" | "deleted">): boolean {
    let { changed } = this.#felix.update(changes);
    for (const kv of changes.set) changed = this.#take(kv) || changed;
    for (const key of changes.deleted) {
      changed = this.#workloads.delete(key) || this.#hosts.delete(key) || changed;
      if (key === clusterKey) this.#ready = false;
    }
    return changed;
  }

  /** The cluster may be worked on. */
  get ready(): boolean {
    return this.#ready;
  }

  /** This node's workloads. */
  workloads(): Iterable<Workload> {
    return this.#workloads.values();
  }

  /** This node's host endpoints. */
  hosts(): HostEndpoint[] {
    return [...this.#hosts.values()];
  }

  /** The parameters in force, and those that are not understood. */
  settings(): { settings: StatusSettings; problems: SettingProblem[] } {
    return statusSettings(this.#felix.sources());
  }

  #take(kv: KeyValue): boolean {
    if (kv.key.startsWith(workloadPrefix)) return this.#takeWorkload(kv);
    if (kv.key.startsWith(hostPrefix)) return this.#takeHost(kv);
    if (kv.key !== clusterKey) return false;
    this.#ready = specOf(kv)?.datastoreReady === true;
    return true;
  }

  #takeWorkload(kv: KeyValue): boolean {
    if (!isEndpointOf(this.#node, kv.key)) return false;
    const parsed = parseKey(kv.key);
    const name = parsed?.is === "resource" ? parseEndpointName(parsed.name) : undefined;
    if (parsed?.is !== "resource" || !name) return false;
    const spec = specOf(kv);
    if (!spec) return false;
    const nets = netsOf(spec.ipNetworks);
    // As for Felix, an endpoint without addresses is not there yet.
    if (nets.length === 0) return this.#workloads.delete(kv.key);
    this.#workloads.set(kv.key, {
      key: kv.key,
      orchestrator: name.orchestrator,
      workload: `${parsed.namespace ?? ""}/${name.pod ?? name.containerID ?? name.workload ?? ""}`,
      endpoint: name.endpoint,
      interfaceName: textOf(spec.interfaceName),
      mac: textOf(spec.mac),
      nets,
    });
    return true;
  }

  #takeHost(kv: KeyValue): boolean {
    const parsed = parseKey(kv.key), spec = specOf(kv);
    if (parsed?.is !== "resource" || !spec) return false;
    if (spec.node !== this.#node) return this.#hosts.delete(kv.key);
    const { name } = parsed;
    const interfaceName = textOf(spec.interfaceName), nets = netsOf(spec.expectedIPs);
    this.#hosts.set(kv.key, { id: `HostEndpoint:${name}`, name, interfaceName, nets });
    return true;
  }
}

const clusterKey = resourceKey("ClusterInformation", "default");
const workloadPrefix = kindPrefix("WorkloadEndpoint"), hostPrefix = kindPrefix("HostEndpoint");
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

function specOf(kv: KeyValue): Spec | undefined {
  const resource = decodeResource(kv);
  return resource && !isUndecodable(resource) && isObject(resource.spec) ? resource.spec as Spec : undefined;
}

const netsOf = (list: unknown) =>
  (Array.isArray(list) ? list : []).flatMap((text) => {
    const net = typeof text === "string" ? tryParseCidrOrIp(text) : undefined;
    return net ? [net] : [];
  });
