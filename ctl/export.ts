import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { shapeResource } from "../datastore/codec.ts";
import { affinityKey, handlePrefix, ipamConfigKey, ipamPrefix, ownerOf, parseKey } from "../datastore/keys.ts";
import { apiVersion, type Resource } from "../datastore/kind.ts";
import type { ClusterInformation } from "../datastore/kinds/cluster_information.ts";
import { kindByPlural } from "../datastore/kinds/index.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { Resources } from "../datastore/resources.ts";
import { type KeyValue, prefixRange } from "../datastore/store.ts";
import { badInput } from "./command.ts";
import { goJson } from "./output.ts";
import { yamlText } from "./yaml_text.ts";

/** What is exported, in the order in which a new datastore can take it. Kinds that name nodes come after nodes. */
const plurals = [
  ...["ippools", "bgppeers", "tiers", "globalnetworkpolicies", "stagedglobalnetworkpolicies", "globalnetworksets"],
  ...["hostendpoints", "kubecontrollersconfigurations", "networkpolicies", "stagednetworkpolicies"],
  ...["stagedkubernetesnetworkpolicies", "networksets", "nodes", "bgpconfigurations", "felixconfigurations"],
  ...["ipreservations", "bgpfilters"],
];

/**
 * The text of `datastore migrate export`: lists as YAML, `===`, the ClusterInformation as JSON, `===`, IPAM's values as
 * JSON. Nodes have their Kubernetes names in it. Source: calicoctl commands/datastore/migrate/export.go, migrateipam.go.
 * DIFFERS: staged policies of all namespaces are exported; calicoctl leaves out those outside `default`.
 * @throws Problem "bad-input" for a node without a Kubernetes name.
 */
export async function exportText(resources: Resources): Promise<string> {
  const names = new Map<string, string>();
  const parts: string[] = [];
  for (const plural of plurals) {
    const { kind } = kindByPlural(plural)!;
    const { items, revision, undecodable } = await resources.list(kind);
    if (undecodable[0]) throw badInput(`${undecodable[0].key} cannot be read: ${undecodable[0].why}`);
    for (const node of kind === "Node" ? items as Node[] : []) names.set(node.metadata.name, kubernetesName(node));
    const shown = items.filter((item) => !item.metadata.name.startsWith("knp.default."))
      .map((item) => shapeResource(cleaned(item, names), true));
    const list = { kind: `${kind}List`, apiVersion, metadata: { resourceVersion: String(revision) }, items: shown };
    parts.push(yamlText(list), "---\n");
  }
  const cluster = await resources.get<ClusterInformation>("ClusterInformation", "default");
  parts.push(`===\n${goJson(shapeResource(cluster, true))}\n===\n`, `${goJson(await ipamOf(resources, names))}\n`);
  return parts.join("");
}

function kubernetesName({ metadata, spec }: Node): string {
  const name = spec.orchRefs?.findLast((ref) => ref.orchestrator === "k8s")?.nodeName;
  if (name) return name;
  const what = `node ${metadata.name} missing a 'k8s' orchestrator reference.`;
  const todo = "Unable to export data unless every node has a 'k8s' orchestrator reference";
  throw badInput(`unable to process metadata for export for Node resource: ${what} ${todo}`);
}

/** The object without what belongs to this datastore, under its Kubernetes node's name. */
function cleaned(resource: Resource, names: ReadonlyMap<string, string>): Resource {
  const { uid: _u, resourceVersion: _r, creationTimestamp: _c, ...metadata } = resource.metadata;
  const { kind } = resource;
  const spec = kind === "FelixConfiguration" ? withTitles(resource.spec) : resource.spec;
  if (kind === "Node") return { ...resource, metadata: { ...metadata, name: names.get(metadata.name)! } };
  if ((kind === "FelixConfiguration" || kind === "BGPConfiguration") && metadata.name.startsWith("node.")) {
    const node = metadata.name.slice("node.".length);
    return { ...resource, spec, metadata: { ...metadata, name: `node.${names.get(node) ?? node}` } };
  }
  return { ...resource, spec, metadata };
}

/** Words that Calico's first API took in any case. */
const titled = [
  ...["defaultEndpointToHostAction", "iptablesFilterAllowAction", "iptablesMangleAllowAction"],
  "iptablesFilterDenyAction",
];

const withTitles = (spec: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(spec).map(([name, value]) => [
      name,
      titled.includes(name) && typeof value === "string"
        ? value.charAt(0).toUpperCase() + value.slice(1).toLowerCase()
        : value,
    ]),
  );

interface Entry {
  Key: string;
  Value: Json;
  TTL: number;
}

/** IPAM's blocks, affinities, handles and settings, as calicoctl's import takes them. */
async function ipamOf({ store }: Resources, names: ReadonlyMap<string, string>): Promise<Record<string, unknown>> {
  const blocks: Entry[] = [], affinities: Entry[] = [], handles: Entry[] = [];
  let config: Entry | undefined;
  const entry = (Key: string, Value: Json): Entry => ({ Key, Value, TTL: 0 });
  const read = (kv: KeyValue): void => {
    const parsed = parseKey(kv.key), value = valueOf(kv);
    if (parsed?.is === "block") blocks.push(entry(kv.key, renamedBlock(value, names)));
    else if (parsed?.is === "affinity" && parsed.owner === "host") {
      affinities.push(entry(affinityKey(ownerOf(names.get(parsed.node) ?? parsed.node), parsed.cidr), value));
    } else if (parsed?.is === "handle") handles.push(entry(handlePrefix + renamedHandle(parsed.id, names), value));
    else if (kv.key === ipamConfigKey) config = entry(kv.key, value);
  };
  await store.list(prefixRange(ipamPrefix), (kvs) => kvs.forEach(read));
  const some = (list: Entry[]) => (list.length > 0 ? list : undefined);
  return { block_affinities: some(affinities), blocks: some(blocks), handles: some(handles), config };
}

function valueOf({ key, value }: KeyValue): Json {
  try {
    return parseJson(value);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw badInput(`${key} cannot be read: not JSON`);
  }
}

function renamedBlock(block: Json, names: ReadonlyMap<string, string>): Json {
  if (!isObject(block)) return block;
  const host = String(block.affinity ?? "").replace(/^host:/, "");
  const attributes = Array.isArray(block.attributes)
    ? block.attributes.map((a) => renamedAttribute(a, names))
    : undefined;
  return {
    ...block,
    ...(names.has(host) && { affinity: ownerOf(names.get(host)!) }),
    ...(attributes && { attributes }),
  };
}

function renamedAttribute(attribute: Json, names: ReadonlyMap<string, string>): Json {
  if (!isObject(attribute)) return attribute;
  const result = { ...attribute };
  for (const member of ["secondary", "alternateOwnerAttrs"]) {
    const owner = attribute[member];
    const node = isObject(owner) ? names.get(String(owner.node)) : undefined;
    if (node && isObject(owner)) result[member] = { ...owner, node };
  }
  if (typeof attribute.handle_id === "string") result.handle_id = renamedHandle(attribute.handle_id, names);
  return result;
}

/** Handles of tunnel addresses carry the node's name. */
function renamedHandle(id: string, names: ReadonlyMap<string, string>): string {
  const [, prefix, node] = /^((?:ipip|vxlan|wireguard)-tunnel-addr-)(.*)$/s.exec(id) ?? [];
  return prefix && names.has(node!) ? prefix + names.get(node!) : id;
}
