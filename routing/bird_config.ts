import { createHash } from "node:crypto";
import { bits, type Family, formatCidr } from "../lib/ip.ts";
import { block, exportFilter, familyFilters, filterFunctions, importFilter, kernelFilterName } from "./filters.ts";
import type { FamilyInputs, Speaker } from "./inputs.ts";
import type { Peer } from "./peers.ts";
import type { Findings } from "./resources.ts";

/** What the text depends on besides the cluster: this machine. */
export interface RenderOptions {
  /** BIRD's log file; undefined = syslog. */
  log?: string;
}

const families: Family[] = [4, 6];

/**
 * The whole configuration of BIRD for one speaker, both families. Equal inputs give equal text. It holds the passwords.
 * Written for BIRD 2.0.12; also parsed by 2.17, 3.1 and 3.3. It keeps to the words that all of them share: functions with
 * at most one parameter and without results, channels with braces, one statement a function or filter line.
 */
export function render(speaker: Speaker, peers: Peer[], findings: Findings, options: RenderOptions = {}): string {
  const sessions = families.filter((v) => speaker.families[v].address !== undefined);
  const lines = [
    `# Written by tortie for node ${speaker.node}. Changes are lost; see BGPConfiguration, BGPPeer and BGPFilter.`,
    `log ${options.log ? `"${options.log}" 1048576 "${options.log}.1"` : "syslog"} ${logClasses(speaker)};`,
    `router id ${speaker.routerId};`,
    // The default of 240 s holds back kernel clean-up that long when one peer is dead.
    "graceful restart wait 60;",
    "timeformat protocol iso long;",
    ...block("protocol device device1", [...debug(speaker), "scan time 10;"]),
    ...block("protocol direct direct1", [
      ...debug(speaker),
      "ipv4;",
      "ipv6;",
      `interface ${[...speaker.ignoredInterfaces, "cali*", "kube-ipvs*"].map((i) => `-"${i}"`).join(", ")}, "*";`,
    ]),
    ...bfdProtocol(speaker, peers),
    ...families.flatMap((v) => familyLines(speaker, v, peers)),
    ...sessions.flatMap((v) => [...template(speaker, v), ...filterFunctions(speaker, v, peers, findings)]),
    ...peers.flatMap((peer) => session(speaker, peer, findings)),
  ];
  return sealed(lines.join("\n") + "\n");
}

/** Symbol whose value names the text that a BIRD runs: `birdc eval tortie_text`. */
export const textSymbol = "tortie_text";

/** Adds the definition of textSymbol, a hash of all that is before it. */
function sealed(text: string): string {
  return `${text}define ${textSymbol} = "${createHash("sha256").update(text).digest("hex").slice(0, 32)}";\n`;
}

/** The value that textSymbol has in a text of render(); undefined in any other text. */
export function sealOf(text: string): string | undefined {
  return new RegExp(`^define ${textSymbol} = "([0-9a-f]{32})";$`, "m").exec(text)?.[1];
}

/** True for a text of render() that nobody has changed since. */
export function isUnedited(text: string): boolean {
  return sealed(text.slice(0, text.lastIndexOf(`define ${textSymbol} = `))) === text;
}

function logClasses(speaker: Speaker): string {
  return speaker.log === "none" ? "{ warning, error, fatal, bug }" : "all";
}

/** Protocol events: states at Calico's level Info, everything at Debug. */
function debug(speaker: Speaker): string[] {
  return { none: [], info: ["debug { states };"], debug: ["debug all;"] }[speaker.log];
}

/** DIFFERS: at level Info Calico logs every route of every session; here that needs Debug. */
function sessionDebug(speaker: Speaker): string[] {
  return { none: [], info: ["debug { states, events };"], debug: ["debug all;"] }[speaker.log];
}

function bfdProtocol(speaker: Speaker, peers: Peer[]): string[] {
  if (!peers.some((p) => p.extras.bfd)) return [];
  const { intervalMs, multiplier } = speaker.bfdTimers;
  return block("protocol bfd bfd1", [`multihop { interval ${intervalMs} ms; multiplier ${multiplier}; };`]);
}

/** Functions, kernel and static protocols of a family: there even when the node has no address of it, as in Calico. */
function familyLines(speaker: Speaker, v: Family, peers: Peer[]): string[] {
  const inputs = speaker.families[v];
  return [
    "",
    ...familyFilters(speaker, inputs),
    ...block(`protocol kernel kernel${v}`, [
      "learn;",
      "persist;",
      // Without it BIRD 2 gives every route metric 32 and ignores krt_metric.
      "metric 0;",
      "scan time 10;",
      "graceful restart;",
      "merge paths on;",
      `ipv${v} { import all; export filter ${kernelFilterName(v)}; };`,
    ]),
    ...block(`protocol static static${v}`, [`ipv${v};`, ...staticRoutes(inputs, peers)]),
  ];
}

/** Blocks (those of one address have their workload's route), services, and how to reach peers; each network once. */
function staticRoutes(inputs: FamilyInputs, peers: Peer[]): string[] {
  const routes = new Map<string, string>();
  const blocks = inputs.blocks.filter(({ cidr }) => cidr.len < bits(cidr.v)).map(({ cidr }) => formatCidr(cidr));
  for (const net of [...blocks, ...inputs.serviceRoutes]) routes.set(net, `route ${net} blackhole;`);
  for (const peer of peers) {
    if (peer.v !== inputs.v || !peer.reachableBy) continue;
    const net = `${peer.address}/${bits(peer.v)}`;
    if (!routes.has(net)) routes.set(net, `route ${net} via ${peer.reachableBy};`);
  }
  return [...routes.values()];
}

/**
 * What all sessions of a family share. The listening port and address belong to sessions in BIRD 2; all of a family must
 * bind strictly or none.
 */
function template(speaker: Speaker, v: Family): string[] {
  const address = speaker.bindNodeIp ? ` ${speaker.families[v].address}` : "";
  const port = speaker.listenPort ? ` port ${speaker.listenPort}` : "";
  return block(`template bgp bgp${v}`, [
    ...sessionDebug(speaker),
    `local${address}${port} as ${speaker.asNumber};`,
    ...(speaker.bindNodeIp ? ["strict bind on;"] : []),
    "multihop;",
    "graceful restart on;",
    "connect delay time 2;",
    "connect retry time 5;",
    "error wait time 5,30;",
    `ipv${v} { gateway recursive; add paths on; };`,
  ]);
}

function session(speaker: Speaker, peer: Peer, findings: Findings): string[] {
  const local = [...(peer.source ? [peer.source] : []), ...(peer.localAs ? [`as ${peer.localAs}`] : [])];
  const port = peer.port ? ` port ${peer.port}` : "";
  return block(`protocol bgp ${peer.name} from bgp${peer.v}`, [
    ...(local.length > 0 ? [`local ${local.join(" ")};`] : []),
    `neighbor ${peer.address}${port} as ${peer.asNumber};`,
    ...(peer.ttlHops ? ["ttl security on;", `multihop ${peer.ttlHops};`] : []),
    ...(peer.passive ? ["passive on;"] : []),
    ...(peer.restartTimeS !== undefined ? [`graceful restart time ${peer.restartTimeS};`] : []),
    ...(peer.keepaliveS ? [`keepalive time ${peer.keepaliveS};`] : []),
    ...(peer.reflectorClusterId ? ["rr client;", `rr cluster id ${peer.reflectorClusterId};`] : []),
    ...(peer.password ? [`password "${peer.password}";`] : []),
    ...(peer.allowLocalAs ? [`allow local as ${peer.allowLocalAs};`] : []),
    ...extrasLines(peer),
    `ipv${peer.v} {`,
    ...(peer.nextHop ? [`  next hop ${peer.nextHop};`] : []),
    ...block("  import filter", importFilter(speaker, peer, findings).map((l) => `  ${l}`)).map(closeInner),
    ...block("  export filter", exportFilter(speaker, peer, findings).map((l) => `  ${l}`)).map(closeInner),
    "};",
  ]);
}

/** A filter that stands inside a channel ends with `};`. */
const closeInner = (line: string): string => (line === "}" ? "  };" : line);

function extrasLines(peer: Peer): string[] {
  const { bfd, longLivedStaleS } = peer.extras;
  return [
    ...(bfd ? ["bfd on;"] : []),
    ...(longLivedStaleS ? ["long lived graceful restart on;", `long lived stale time ${longLivedStaleS};`] : []),
  ];
}
