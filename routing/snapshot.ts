import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { affinityPrefix, ownerOf, parseKey } from "../datastore/keys.ts";
import type { Resource } from "../datastore/kind.ts";
import type { Changes } from "../datastore/mirror.ts";
import type { KeyValue } from "../datastore/store.ts";
import { formatCidr } from "../lib/ip.ts";
import { isObject, parseJson } from "../lib/json64.ts";
import { Findings, type Resources } from "./resources.ts";

/** Kinds that routing reads, with the member of Resources where each lies. */
const members: Record<string, Exclude<keyof Resources, "affinities">> = {
  Node: "nodes",
  BGPConfiguration: "bgpConfigurations",
  BGPPeer: "bgpPeers",
  BGPFilter: "bgpFilters",
  IPPool: "ipPools",
  FelixConfiguration: "felixConfigurations",
};

/**
 * What routing reads, kept current by the mirror's changes. A value that cannot be understood is named in `problems()`
 * and the last good one stays in force.
 */
export class Snapshot {
  readonly resources: Resources = {
    nodes: new Map(),
    bgpConfigurations: new Map(),
    bgpPeers: new Map(),
    bgpFilters: new Map(),
    ipPools: new Map(),
    felixConfigurations: new Map(),
    affinities: new Map(),
  };
  #bad = new Map<string, string>();
  readonly #ownAffinities: string;

  constructor(node: string) {
    this.#ownAffinities = affinityPrefix(ownerOf(node));
  }

  /** Takes over a batch; true when something in it concerns routing. */
  update(changes: Pick<Changes, "set" | "deleted">): boolean {
    let concerned = false;
    for (const kv of changes.set) concerned = this.#put(kv) || concerned;
    for (const key of changes.deleted) concerned = this.#remove(key) || concerned;
    return concerned;
  }

  /** Names the stored values that cannot be understood. */
  tell(findings: Findings): void {
    for (const [key, why] of this.#bad) {
      findings.add(`cannot be understood (${why}), the last good value stays`, key, undefined, "undecodable");
    }
  }

  #put(kv: KeyValue): boolean {
    const parsed = parseKey(kv.key);
    if (parsed?.is === "affinity") {
      if (!kv.key.startsWith(this.#ownAffinities)) return false;
      const state = affinityState(kv.value);
      if (state === undefined) this.#bad.set(kv.key, "not an affinity");
      else {
        this.#bad.delete(kv.key);
        this.resources.affinities.set(formatCidr(parsed.cidr), state);
      }
      return true;
    }
    if (parsed?.is !== "resource" || !members[parsed.kind]) return false;
    const resource = decodeResource(kv);
    if (!resource || isUndecodable(resource)) this.#bad.set(kv.key, resource?.why ?? "not a resource");
    else {
      this.#bad.delete(kv.key);
      (this.resources[members[parsed.kind]!] as Map<string, Resource>).set(parsed.name, resource);
    }
    return true;
  }

  #remove(key: string): boolean {
    this.#bad.delete(key);
    const parsed = parseKey(key);
    if (parsed?.is === "affinity") {
      return key.startsWith(this.#ownAffinities) && this.resources.affinities.delete(formatCidr(parsed.cidr));
    }
    if (parsed?.is !== "resource" || !members[parsed.kind]) return false;
    return this.resources[members[parsed.kind]!].delete(parsed.name);
  }
}

/** The state in an affinity's value; "" for the old empty value; undefined when it is neither. */
function affinityState(value: string): string | undefined {
  if (value.trim() === "") return "";
  try {
    const json = parseJson(value);
    const state = isObject(json) ? json.state ?? "" : undefined;
    return typeof state === "string" ? state : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
