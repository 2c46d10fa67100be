import { createHash } from "node:crypto";
import { type Cidr, contains, formatIp, tryParseCidr, tryParseCidrOrIp } from "../../lib/ip.ts";
import { sameJson } from "../../lib/json64.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix, nodePrefix, resourceKey } from "../../datastore/keys.ts";
import { apiVersion } from "../../datastore/kind.ts";
import type { HostEndpoint } from "../../datastore/kinds/host_endpoint.ts";
import type { Node } from "../../datastore/kinds/node.ts";
import { maxNameLength } from "../../datastore/names.ts";
import { parseSelector } from "../../datastore/selector/index.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { isProblem } from "../../lib/problem.ts";
import type { HostEndpointSettings, HostEndpointTemplate, Running } from "../settings.ts";
import type { Have, Step } from "./step.ts";
import type { Sync } from "./sync.ts";

/** Label by which ours are known; Calico's, so that one takes over from the other. */
const ownLabel = "projectcalico.org/created-by", owner = "calico-kube-controllers";
const suffix = "auto-hep";
const profiles = ["projectcalico-default-allow"];

/**
 * The host endpoints of a node: the default one for all interfaces, and those of each template that selects the node.
 * Source: Calico kube-controllers/pkg/controllers/node/hostendpoints.go.
 */
export function hostEndpointsOf(node: Node, settings: HostEndpointSettings): HostEndpoint[] {
  if (!settings.autoCreate) return [];
  const ips = addressesOf(node);
  const ours = settings.templates.filter((template) => selects(template, node));
  const byDefault = settings.createDefault ? [made(node, [], ips, "*")] : [];
  return [...byDefault, ...ours.flatMap((template) => byTemplate(node, template, ips))];
}

function byTemplate(node: Node, template: HostEndpointTemplate, all: string[]): HostEndpoint[] {
  const { generateName = "", interfacePattern } = template;
  const cidrs = (template.interfaceCIDRs ?? []).map(tryParseCidr).filter((cidr) => cidr !== undefined);
  const ips = all.filter((ip) => cidrs.some((cidr) => contains(cidr, addressOf(ip)!)));
  if (!interfacePattern) return ips.length > 0 ? [made(node, [generateName], ips, undefined, template)] : [];
  const pattern = patternOf(interfacePattern);
  const matching = (node.spec.interfaces ?? []).filter(({ name }) => name && pattern?.test(name));
  return matching.map(({ name, addresses = [] }) =>
    made(node, [generateName, name!], [...new Set([...ips, ...addresses.filter(addressOf)])], name, template)
  );
}

function made(
  { metadata }: Node,
  parts: string[],
  expectedIPs: string[],
  interfaceName: string | undefined,
  template: HostEndpointTemplate = {},
): HostEndpoint {
  const annotations = template.annotations ?? {};
  return {
    kind: "HostEndpoint",
    apiVersion,
    metadata: {
      name: shortened([metadata.name, ...parts, suffix].join("-")),
      labels: { ...metadata.labels, ...template.labels, [ownLabel]: owner },
      ...(Object.keys(annotations).length > 0 && { annotations }),
    },
    spec: {
      node: metadata.name,
      ...(interfaceName && { interfaceName }),
      ...(expectedIPs.length > 0 && { expectedIPs }),
      profiles,
    },
  };
}

function shortened(name: string): string {
  if (name.length <= maxNameLength) return name;
  const hash = createHash("sha256").update(name).digest("base64url").replace(/[-_.]/g, "");
  return `${hash}-${suffix}`.toLowerCase();
}

/** All addresses of a node, in the order in which Calico writes them; what is none is left out. */
function addressesOf({ spec }: Node): string[] {
  const { bgp, wireguard } = spec;
  const own = [bgp?.ipv4Address, bgp?.ipv6Address].map((text) => text && tryParseCidrOrIp(text.replace(/\/.*/, "")))
    .map((cidr) => cidr ? formatIp(cidr) : undefined);
  const others = [
    ...[bgp?.ipv4IPIPTunnelAddr, spec.ipv4VXLANTunnelAddr, spec.ipv6VXLANTunnelAddr],
    ...[wireguard?.interfaceIPv4Address, wireguard?.interfaceIPv6Address],
    ...(spec.addresses ?? []).filter(({ type }) => type === "InternalIP").map(({ address }) => address),
    ...(spec.interfaces ?? []).flatMap(({ addresses = [] }) => addresses),
  ];
  return [...new Set([...own, ...others])].filter((ip): ip is string => !!ip && addressOf(ip) !== undefined);
}

const addressOf = (text: string): Cidr | undefined => tryParseCidrOrIp(text);

/** A selector that cannot be read selects nobody. DIFFERS: for Calico it also ends all templates after it. */
function selects({ nodeSelector = "" }: HostEndpointTemplate, { metadata }: Node): boolean {
  try {
    return parseSelector(nodeSelector).matches(metadata.labels ?? {});
  } catch (error) {
    if (isProblem(error)) return false;
    throw error;
  }
}

/** Go's expressions are a part of ours as far as interfaces' names go; one that cannot be read matches nothing. */
function patternOf(text: string): RegExp | undefined {
  try {
    return new RegExp(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Keeps a host endpoint for each node, and those of templates, as the settings ask; ours that nobody asks for go. */
class HostEndpoints implements Sync {
  readonly name = "hostendpoint";
  readonly sources = [];
  #settings: HostEndpointSettings = { autoCreate: false, createDefault: true, templates: [] };
  readonly #nodes = new Map<string, Node>();
  readonly #wanted = new Map<string, HostEndpoint>();
  /** Keys of ours by node's key. */
  readonly #ofNode = new Map<string, string[]>();
  /** Keys of what is stored with our label. */
  readonly #stored = new Set<string>();
  readonly #below = kindPrefix("HostEndpoint");

  configure({ hostEndpoint }: Running): string[] {
    this.#settings = hostEndpoint;
    return [...[...this.#nodes.keys()].flatMap((key) => this.#make(key)), ...this.#stored];
  }

  kubernetes(): string[] {
    return [];
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    const doubted: string[] = [];
    for (const kv of set) {
      const isNode = kv.key.startsWith(nodePrefix);
      if (!isNode && !kv.key.startsWith(this.#below)) continue;
      const object = decodeResource(kv);
      if (!object || isUndecodable(object)) doubted.push(...(isNode ? [] : [kv.key]));
      else if (isNode) {
        this.#nodes.set(kv.key, object as Node);
        doubted.push(...this.#make(kv.key));
      } else {
        if (isOurs(object as HostEndpoint)) this.#stored.add(kv.key);
        else this.#stored.delete(kv.key);
        doubted.push(kv.key);
      }
    }
    for (const key of deleted) {
      if (this.#nodes.delete(key)) doubted.push(...this.#make(key));
      else if (key.startsWith(this.#below)) {
        this.#stored.delete(key);
        doubted.push(key);
      }
    }
    return doubted;
  }

  /** Labels, annotations, addresses and interface are ours; what stands there without our label is a user's. */
  step(key: string, have: Have): Step {
    const want = this.#wanted.get(key);
    if (have && "undecodable" in have) return { do: "nothing" };
    const stored = have as HostEndpoint | undefined;
    if (!stored) return want ? { do: "create", resource: want } : { do: "nothing" };
    if (!isOurs(stored)) return { do: "nothing" };
    if (!want) return { do: "delete" };
    const isSame = sameJson(stored.metadata.labels ?? {}, want.metadata.labels) &&
      sameJson(stored.metadata.annotations ?? {}, want.metadata.annotations ?? {}) &&
      sameJson(stored.spec.expectedIPs ?? [], want.spec.expectedIPs ?? []) &&
      (stored.spec.interfaceName ?? "") === (want.spec.interfaceName ?? "");
    if (isSame) return { do: "nothing" };
    const { labels, annotations } = want.metadata;
    return {
      do: "update",
      resource: { ...stored, metadata: { ...stored.metadata, labels, annotations }, spec: want.spec },
    };
  }

  /** Works out anew what a node needs; answers what may be different. */
  #make(nodeKey: string): string[] {
    const before = this.#ofNode.get(nodeKey) ?? [], node = this.#nodes.get(nodeKey);
    for (const key of before) this.#wanted.delete(key);
    const now = (node ? hostEndpointsOf(node, this.#settings) : []).map((endpoint) => {
      const key = resourceKey("HostEndpoint", endpoint.metadata.name);
      this.#wanted.set(key, endpoint);
      return key;
    });
    if (now.length > 0) this.#ofNode.set(nodeKey, now);
    else this.#ofNode.delete(nodeKey);
    return [...before, ...now];
  }
}

const isOurs = ({ metadata }: HostEndpoint): boolean => metadata.labels?.[ownLabel] === owner;

/** The controller of automatic host endpoints. */
export const hostEndpointSync = (): Sync => new HostEndpoints();
