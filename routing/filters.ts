import { createHash } from "node:crypto";
import type { BGPFilter, BGPFilterRule as FilterRule } from "../datastore/kinds/bgp_filter.ts";
import { bits, type Cidr, type Family, formatCidr, tryParseCidrOrIp } from "../lib/ip.ts";
import {
  birdMax,
  type Community,
  type FamilyInputs,
  isPattern,
  isPriority,
  parseCommunity,
  type Speaker,
} from "./inputs.ts";
import type { Peer } from "./peers.ts";
import type { Findings } from "./resources.ts";

/** Which way a filter looks. */
export type Direction = "import" | "export";

/** Preference of a route that shall win over a local workload's route of the same address (live migration), as Calico. */
const overridePreference = 200;

/**
 * Names of the functions that every export filter of a family calls. BIRD has one name space for both families.
 * `priority` ties local preference to kernel metric, `announce` holds everything after the peer's own BGPFilters.
 */
const names = (v: Family) => ({
  priority: `calico_priority${v}`,
  aggregate: `calico_aggr${v}`,
  communities: `apply_communities${v}`,
  announce: `calico_export_to_bgp_peers${v}`,
  kernel: `calico_kernel_programming${v}`,
});

/** `if (c) then { body }` on one line. */
const when = (condition: string, body: string): string => `if (${condition}) then { ${body} }`;
const within = (cidr: Cidr | string): string => `net ~ ${typeof cidr === "string" ? cidr : formatCidr(cidr)}`;
const accept = "accept;";
const reject = "reject;";

/** Functions and the kernel filter of one family, as lines of configuration. */
export function familyFilters(speaker: Speaker, inputs: FamilyInputs): string[] {
  const name = names(inputs.v);
  return [
    ...block(`function ${name.priority}()`, priorityLines(inputs)),
    ...block(
      `function ${name.communities}()`,
      inputs.advertisements.map((a) => when(within(a.cidr), a.communities.map(addCommunity).join(" "))),
    ),
    ...block(`function ${name.aggregate}()`, aggregateLines(inputs)),
    ...block(`function ${name.announce}(bool internal_peer)`, announceLines(speaker, inputs)),
    ...block(`filter ${name.kernel}`, kernelLines(inputs)),
  ];
}

/** Name of the filter that decides what the kernel gets. */
export const kernelFilterName = (v: Family): string => names(v).kernel;

/** A session's import filter, between its braces. */
export function importFilter(speaker: Speaker, peer: Peer, findings: Findings): string[] {
  const normal = birdMax - speaker.families[peer.v].normalPriority;
  return [
    ...peer.filters.flatMap((f) => callFilter(speaker, peer, f, "import", findings)),
    when(`defined(bgp_local_pref) && bgp_local_pref > ${normal}`, `preference = ${overridePreference};`),
    accept,
  ];
}

/** A session's export filter, between its braces. */
export function exportFilter(speaker: Speaker, peer: Peer, findings: Findings): string[] {
  const name = names(peer.v);
  return [
    `${name.priority}();`,
    ...peer.filters.flatMap((f) => callFilter(speaker, peer, f, "export", findings)),
    `${name.announce}(${peer.internal});`,
    reject,
  ];
}

/** Definitions of the BGPFilter functions that the sessions of a family call, sorted by name. */
export function filterFunctions(speaker: Speaker, v: Family, peers: Peer[], findings: Findings): string[] {
  const used = [...new Set(peers.filter((p) => p.v === v).flatMap((p) => p.filters))].sort();
  return used.flatMap((name) => {
    const filter = speaker.filters.get(name);
    if (!filter) {
      const by = peers.find((p) => p.filters.includes(name))!;
      findings.add(`BGPFilter ${name} does not exist and is skipped`, by.from, undefined, "not-found");
      return [];
    }
    return (["import", "export"] as const).flatMap((direction) => {
      const rules = rulesOf(filter, direction, v);
      if (rules.length === 0) return [];
      const parameter = rules.some((r) => r.peerType) ? "bool is_same_as" : "";
      const where = (i: number) => `BGPFilter ${name}, spec.${direction}V${v}[${i}]`;
      const statements = rules.map((rule, i) => guarded(rule, statement(rule, v, where(i), findings)));
      return block(`function ${filterFunctionName(name, direction, v)}(${parameter})`, statements);
    });
  });
}

/**
 * Name of a BGPFilter's function, quoted: `'bgp_<name>_importFilterV4'`. BIRD 1.6 cut symbols at 64 characters, so Calico
 * shortens names above 45 to 28 characters, `_` and 16 hex digits of SHA-256; users know these names from `birdc`.
 */
export function filterFunctionName(name: string, direction: Direction, v: Family): string {
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 16).toUpperCase();
  const short = name.length > 45 ? `${name.slice(0, 28)}_${hash}` : name;
  return `'bgp_${short}_${direction}FilterV${v}'`;
}

/**
 * BIRD 1.6 had put our AS in front of the path before the export filter of an external session ran, BIRD 2 does it after.
 * So a rule on the beginning of the path is rewritten there for our AS, in place of the call to the shared function.
 */
function callFilter(
  speaker: Speaker,
  peer: Peer,
  name: string,
  direction: Direction,
  findings: Findings,
): string[] {
  const filter = speaker.filters.get(name);
  const rules = filter ? rulesOf(filter, direction, peer.v) : [];
  if (rules.length === 0) return [];
  const rewrite = direction === "export" && !peer.internal && rules.some((r) => r.asPathPrefix?.length);
  if (!rewrite) {
    const argument = rules.some((r) => r.peerType) ? String(peer.internal) : "";
    return [`${filterFunctionName(name, direction, peer.v)}(${argument});`];
  }
  const own = peer.localAs ?? speaker.asNumber;
  return rules.flatMap((rule, i) => {
    const where = `BGPFilter ${name}, spec.${direction}V${peer.v}[${i}]`;
    return rule.peerType === "iBGP" ? [] : [statement(rule, peer.v, where, findings, own)];
  });
}

function rulesOf(filter: BGPFilter, direction: Direction, v: Family): FilterRule[] {
  const { spec } = filter;
  if (direction === "import") return (v === 4 ? spec.importV4 : spec.importV6) ?? [];
  return (v === 4 ? spec.exportV4 : spec.exportV6) ?? [];
}

function guarded(rule: FilterRule, text: string): string {
  if (rule.peerType === "iBGP") return when("is_same_as", text);
  return rule.peerType === "eBGP" ? when("!is_same_as", text) : text;
}

/**
 * One rule as a statement. A rule that cannot be understood rejects everything that reaches it: a reject that is lost
 * would let routes out. @param ownAs set: our AS counts as the first of the path.
 */
function statement(rule: FilterRule, v: Family, where: string, findings: Findings, ownAs?: number): string {
  const wrong = (what: string) => {
    findings.add(`${what}: from here on the filter rejects`, where);
    return reject;
  };
  const action = rule.action === "Accept" ? accept : rule.action === "Reject" ? reject : undefined;
  if (!action) return wrong(`action "${rule.action ?? ""}" is not known`);
  if (rule.peerType && !["iBGP", "eBGP"].includes(rule.peerType)) {
    return wrong(`peerType "${rule.peerType}" is not known`);
  }
  const conditions = conditionsOf(rule, v, ownAs);
  const bad = conditions.find((c) => typeof c !== "string");
  if (bad) return wrong(bad.wrong);
  const { min = 0, max = bits(v) } = rule.prefixLength ?? {};
  if (min > max) findings.add(`prefixLength ${min}-${max} leaves nothing: no route is meant by it`, where);
  const operations = (rule.operations ?? []).map(operationText);
  if (operations.includes(undefined)) return wrong("has an operation that is not understood");
  const body = [...operations, action].join(" ");
  return conditions.length === 0 ? body : when(conditions.join(" && "), body);
}

/** The rule's conditions, all of which must hold, or what is wrong with one. */
function conditionsOf(rule: FilterRule, v: Family, ownAs: number | undefined): (string | { wrong: string })[] {
  const out: (string | { wrong: string })[] = [];
  if (rule.cidr) out.push(cidrCondition(rule, rule.cidr, v));
  if (rule.source === "RemotePeers") out.push("source = RTS_BGP");
  else if (rule.source) out.push({ wrong: `source "${rule.source}" is not known` });
  if (rule.interface) {
    out.push(isPattern(rule.interface) ? `ifname ~ "${rule.interface}"` : { wrong: "interface is not a pattern" });
  }
  if (rule.communities) {
    const community = parseCommunity(rule.communities.values?.[0] ?? "");
    const list = community?.length === 3 ? "bgp_large_community" : "bgp_community";
    out.push(community ? `${tuple(community)} ~ ${list}` : { wrong: "community is not one" });
  }
  if (rule.asPathPrefix?.length) out.push(pathCondition(rule.asPathPrefix, ownAs));
  if (rule.priority !== undefined) {
    const condition = `defined(bgp_local_pref) && bgp_local_pref = ${birdMax - rule.priority}`;
    out.push(isPriority(rule.priority) ? condition : { wrong: "priority is not within 1 and 2147483646" });
  }
  return out;
}

/**
 * The condition on the prefix. With bounds of the length BIRD compares a prefix with a set, which is never equal; Calico's
 * users see that, so it stays. Bounds that leave nothing match nothing (Calico's BIRD refuses the whole file).
 */
function cidrCondition(rule: FilterRule, text: string, v: Family): string | { wrong: string } {
  const cidr = tryParseCidrOrIp(text);
  if (cidr?.v !== v) return { wrong: `"${text}" is not an IPv${v} network` };
  const operator = { Equal: "=", NotEqual: "!=", In: "~", NotIn: "!~" }[rule.matchOperator ?? ""];
  if (!operator) return { wrong: `matchOperator "${rule.matchOperator ?? ""}" is not known` };
  if (!rule.prefixLength) return `net ${operator} ${formatCidr(cidr)}`;
  const { min = 0, max = bits(v) } = rule.prefixLength;
  if (![min, max].every((n) => Number.isInteger(n) && n >= 0 && n <= bits(v))) {
    return { wrong: `prefixLength ${min}-${max} is not within 0 and ${bits(v)}` };
  }
  const low = Math.max(cidr.len, min), high = max;
  const never = operator === "=" || operator === "!=" || low > high;
  if (never) return operator.startsWith("!") ? "true" : "false";
  return `net ${operator} [ ${formatCidr(cidr)}{${low},${high}} ]`;
}

function pathCondition(prefix: number[], ownAs: number | undefined): string {
  if (ownAs === undefined) return `bgp_path ~ [= ${prefix.join(" ")} * =]`;
  const [first, ...rest] = prefix;
  if (first !== ownAs) return "false";
  return rest.length === 0 ? "true" : `bgp_path ~ [= ${rest.join(" ")} * =]`;
}

function operationText(operation: NonNullable<FilterRule["operations"]>[number]): string | undefined {
  if (operation.addCommunity) {
    const community = parseCommunity(operation.addCommunity.value ?? "");
    return community && addCommunity(community);
  }
  if (operation.prependASPath) {
    const prefix = operation.prependASPath.prefix ?? [];
    return prefix.toReversed().map((as) => `bgp_path.prepend(${as});`).join(" ");
  }
  const value = operation.setPriority?.value;
  return value !== undefined && isPriority(value) ? `bgp_local_pref = ${birdMax - value};` : undefined;
}

const tuple = (c: Community): string => `(${c.join(", ")})`;
const addCommunity = (c: Community): string => `bgp${c.length === 3 ? "_large" : ""}_community.add(${tuple(c)});`;

/** A peer's local preference decides a learned route's metric; a route of our own gets its preference from its metric. */
function priorityLines({ normalPriority }: FamilyInputs): string[] {
  return [
    "if (source = RTS_BGP && defined(bgp_local_pref)) then {",
    `  krt_metric = ${birdMax} - bgp_local_pref;`,
    "} else {",
    `  ${when("!defined(krt_metric)", `krt_metric = ${normalPriority};`)}`,
    `  bgp_local_pref = ${birdMax} - krt_metric;`,
    "}",
  ];
}

/** The block instead of its addresses, save those that are preferred to the ordinary ones. */
function aggregateLines({ blocks, normalPriority }: FamilyInputs): string[] {
  return blocks.filter((b) => b.confirmed).map(({ cidr }) => {
    const net = formatCidr(cidr);
    return `${when(`net = ${net}`, accept)} ${when(`net ~ ${net} && krt_metric < ${normalPriority}`, accept)} ${
      when(`net ~ ${net}`, reject)
    }`;
  });
}

/** In Calico's order: what must not leave, communities, blocks, services, pools. Falling through means reject. */
function announceLines(speaker: Speaker, inputs: FamilyInputs): string[] {
  const name = names(inputs.v);
  return [
    ...inputs.pools.filter((p) => !p.exported).map((p) => `${when(within(p.cidr), reject)} # disableBGPExport`),
    // Tunnel routes are the agent's: vxlan.calico, wireguard.cali, tunl0. Every node has its own.
    when('internal_peer && (ifname ~ "*.cali" || ifname ~ "*.calico" || ifname ~ "tunl0")', reject),
    when('ifname ~ "bpf*.cali"', reject),
    `${name.communities}();`,
    `${name.aggregate}();`,
    ...inputs.serviceRoutes.map((c) => when(within(c), accept)),
    ...(speaker.clusterId ? inputs.reflectorAccepts.map((c) => when(within(c), accept)) : []),
    ...inputs.pools.filter((p) => p.exported).map((p) => when(within(p.cidr), accept)),
  ];
}

/** Calico's filter toward the kernel. BIRD 2 offers direct routes to the kernel too, BIRD 1.6 did not. */
function kernelLines(inputs: FamilyInputs): string[] {
  const { normalPriority } = inputs;
  return [
    when("source = RTS_DEVICE", reject),
    ...inputs.kernelRejects.map((c) => `${when(within(c), reject)} # service`),
    "if (source = RTS_BGP && !defined(krt_metric)) then {",
    `  krt_metric = ${normalPriority};`,
    `  ${when("defined(bgp_local_pref)", `krt_metric = ${birdMax} - bgp_local_pref;`)}`,
    `  ${when(`krt_metric < ${normalPriority}`, `preference = ${overridePreference};`)}`,
    "}",
    ...inputs.wireguardNextHops.map((a) =>
      `${when(`defined(bgp_next_hop) && bgp_next_hop = ${a}`, reject)} # WireGuard`
    ),
    ...inputs.pools.map((p) =>
      p.birdPrograms ? when(within(p.cidr), accept) : `${when(within(p.cidr), reject)} # the agent's`
    ),
    accept,
  ];
}

/** `head {`, indented lines, `}`. */
export const block = (head: string, lines: string[]): string[] => [`${head} {`, ...lines.map((l) => `  ${l}`), "}"];
