import { type IpamKey, parseIpamKey } from "./ipam_keys.ts";
import { resourcePrefix as prefix } from "./kind.ts";
import { kindByName, kindByPlural } from "./kinds/index.ts";
import { escapePart, unescapePart } from "./names.ts";

export * from "./ipam_keys.ts";

/** Below it lie all resources: `<plural>/<name>` or `<plural>/<namespace>/<name>`. */
export const resourcePrefix = prefix;

/** Below it lie the status reports of agents. */
export const statusPrefix = "/calico/felix/v2/";
const hostStatusPrefix = "/calico/felix/v1/host/";

/**
 * The key of a resource. The name is taken as it is: names cannot hold a slash.
 * @param kind "IPPool". @param namespace for namespaced kinds only; ignored for the others, as Calico does.
 */
export function resourceKey(kind: string, name: string, namespace?: string): string {
  const { plural, namespaced } = kindByName(kind);
  return `${resourcePrefix}${plural}/${namespaced ? `${namespace ?? ""}/` : ""}${name}`;
}

/** The prefix of all objects of a kind, or of those in one namespace; ends with a slash. */
export function kindPrefix(kind: string, namespace?: string): string {
  const { plural, namespaced } = kindByName(kind);
  return `${resourcePrefix}${plural}/${namespaced && namespace ? `${namespace}/` : ""}`;
}

/** Below it lie all pools. */
export const poolPrefix = kindPrefix("IPPool");
/** Below it lie all reservations. */
export const reservationPrefix = kindPrefix("IPReservation");
/** Below it lie all nodes. */
export const nodePrefix = kindPrefix("Node");
/** The ClusterInformation, which says whether anybody may work. */
export const readyKey = resourceKey("ClusterInformation", "default");
/** The Node resource of a node. */
export const nodeKey = (node: string): string => resourceKey("Node", node);

/** The keys of a node's status reports: `status` ends with its lease, `lastReported` stays. */
export function statusKeys(node: string, region?: string): { status: string; lastReported: string } {
  const base = `${statusPrefix}${regionPart(region)}/host/${node}`;
  return { status: `${base}/status`, lastReported: `${base}/last_reported_status` };
}

/** The key of a workload endpoint's state, as its node reports it. */
export function workloadStatusKey(
  id: { node: string; orchestrator: string; workload: string; endpoint: string; region?: string },
): string {
  const [orchestrator, workload, endpoint] = [id.orchestrator, id.workload, id.endpoint].map(escapePart);
  return `${statusPrefix}${
    regionPart(id.region)
  }/host/${id.node}/workload/${orchestrator}/${workload}/endpoint/${endpoint}`;
}

/** The key of a host endpoint's state, as its node reports it. */
export const hostEndpointStatusKey = (node: string, name: string): string =>
  `${hostStatusPrefix}${node}/endpoint/${escapePart(name)}`;

/** What a key stands for. */
export type ParsedKey =
  | { is: "resource"; kind: string; name: string; namespace?: string }
  | IpamKey
  | { is: "node-status"; region: string; node: string; last: boolean }
  | { is: "workload-status"; region: string; node: string; orchestrator: string; workload: string; endpoint: string }
  | { is: "host-endpoint-status"; node: string; name: string };

/** What a key stands for; undefined when it is none of ours (an unknown plural, too few parts, another prefix). */
export function parseKey(key: string): ParsedKey | undefined {
  if (!key.startsWith(resourcePrefix)) return parseIpamKey(key) ?? parseStatusKey(key);
  const parts = key.slice(resourcePrefix.length).split("/");
  const kind = kindByPlural(parts[0]!);
  if (!kind || parts.length !== (kind.namespaced ? 3 : 2) || parts.includes("")) return undefined;
  const name = unescapePart(parts.at(-1)!);
  if (!kind.namespaced) return { is: "resource", kind: kind.kind, name };
  return { is: "resource", kind: kind.kind, namespace: unescapePart(parts[1]!), name };
}

function parseStatusKey(key: string): ParsedKey | undefined {
  if (key.startsWith(hostStatusPrefix)) {
    const match = /^([^/]+)\/endpoint\/([^/]+)$/.exec(key.slice(hostStatusPrefix.length));
    return match ? { is: "host-endpoint-status", node: match[1]!, name: unescapePart(match[2]!) } : undefined;
  }
  const match = /^([^/]+)\/host\/([^/]+)\/(.+)$/.exec(
    key.startsWith(statusPrefix) ? key.slice(statusPrefix.length) : "",
  );
  if (!match) return undefined;
  const [, region, node, rest] = match as unknown as [string, string, string, string];
  if (rest === "status" || rest === "last_reported_status") {
    return { is: "node-status", region, node, last: rest !== "status" };
  }
  const ids = /^workload\/([^/]+)\/([^/]+)\/endpoint\/([^/]+)$/.exec(rest)?.slice(1).map(unescapePart);
  if (!ids) return undefined;
  return { is: "workload-status", region, node, orchestrator: ids[0]!, workload: ids[1]!, endpoint: ids[2]! };
}

const regionPart = (region: string | undefined): string => (region ? `region-${region}` : "no-region");
