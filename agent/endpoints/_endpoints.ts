import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix } from "../../datastore/keys.ts";
import { type EndpointIdentity, endpointNamePrefix, parseEndpointName } from "../../datastore/names.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { KeyValue } from "../../datastore/store.ts";

/** A stored endpoint with the revision that a change of it compares. */
export interface Known {
  key: string;
  revision: bigint;
  /** Undefined when the value cannot be read. */
  endpoint: WorkloadEndpoint | undefined;
  text: string;
}

/** Where the endpoint of a container may be. */
export interface Whereabouts {
  key?: string;
  containerId: string;
}

const prefix = () => kindPrefix("WorkloadEndpoint");

/** Workload endpoints as the mirror has them. */
export class Endpoints {
  constructor(private readonly mirror: Pick<Mirror, "get" | "list">, private readonly node: string) {}

  /** The endpoint of this key, whoever owns it. */
  at(key: string): Known | undefined {
    const kv = this.mirror.get(key);
    return kv && known(kv);
  }

  /**
   * The endpoint that belongs to a container: the one of the key when its containerID is empty or this one; else one of
   * the same name but for the node (which may have been renamed) and namespace (which a Mesos label may have moved).
   */
  of({ key, containerId }: Whereabouts): Known | undefined {
    if (key === undefined) return undefined;
    const here = this.at(key);
    if (here && belongsTo(here, containerId)) return here;
    const tail = tailOf(key);
    return this.mirror.list(prefix()).filter((kv) => kv.key.endsWith(tail) && kv.value.includes(`"${containerId}"`))
      .map(known).find((k) => k.endpoint?.spec.containerID === containerId);
  }

  /** All readable endpoints of this node. */
  ofThisNode(): { key: string; endpoint: WorkloadEndpoint }[] {
    const ours = (kv: KeyValue) => kv.value.includes(`"${this.node}"`);
    return this.mirror.list(prefix()).filter(ours).map(known).flatMap(({ key, endpoint }) =>
      endpoint?.spec.node === this.node ? [{ key, endpoint }] : []
    );
  }

  /** Another endpoint of this node that has the interface. Reads only what can be it: called when a name is taken. */
  withInterface(interfaceName: string, otherThan: string): Known | undefined {
    const candidates = this.mirror.list(prefix()).filter((kv) => kv.value.includes(`"${interfaceName}"`));
    return candidates.map(known).find(({ key, endpoint }) =>
      key !== otherThan && endpoint?.spec.node === this.node && endpoint.spec.interfaceName === interfaceName
    );
  }

  /** Endpoints of the same pod or container with another interface name in it. */
  siblings(key: string): Known[] {
    const slash = key.lastIndexOf("/") + 1;
    const id = parseEndpointName(key.slice(slash));
    if (!id) return [];
    const found = this.mirror.list(key.slice(0, slash) + endpointNamePrefix({ ...id, endpoint: "" }));
    return found.filter((kv) => kv.key !== key && isSame(id, parseEndpointName(kv.key.slice(slash)))).map(known);
  }
}

const isSame = (a: EndpointIdentity, b: EndpointIdentity | undefined): boolean =>
  a.node === b?.node && a.orchestrator === b.orchestrator && a.pod === b.pod && a.containerID === b.containerID;

/** Reads an endpoint as it was stored. */
export function known(kv: KeyValue): Known {
  const resource = decodeResource(kv);
  const readable = resource && !isUndecodable(resource);
  return {
    key: kv.key,
    revision: kv.revision,
    endpoint: readable ? resource as WorkloadEndpoint : undefined,
    text: kv.value,
  };
}

/** A value that cannot be read belongs to the container that it names. */
export function belongsTo({ endpoint, text }: Known, containerId: string): boolean {
  if (!endpoint) return text.includes(`"${containerId}"`);
  const owner = endpoint.spec.containerID ?? "";
  return owner === "" || owner === containerId;
}

/** Orchestrator, workload and interface of a key: `-k8s-cart--0-eth0`. */
function tailOf(key: string): string {
  const name = key.slice(key.lastIndexOf("/") + 1);
  const node = /^(?:[^-]|--)+/.exec(name)?.[0] ?? "";
  return name.slice(node.length);
}
