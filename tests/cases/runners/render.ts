import type { ActivePolicy, Direction } from "../../../agent/desired_policy.ts";
import { parseRule, type StoredRule } from "../../../agent/calc/rule_input.ts";
import * as dispatch from "../../../agent/netfilter/dispatch_chains.ts";
import * as endpoint from "../../../agent/netfilter/endpoint_chains.ts";
import { chainLines } from "../../../agent/netfilter/iptables_text.ts";
import {
  type Chain,
  defaultSettings,
  type Failsafe,
  marksOf,
  type NetfilterSettings,
  type Table,
} from "../../../agent/netfilter/model.ts";
import { anyInterface, type PolicyGroup } from "../../../agent/netfilter/names.ts";
import * as nat from "../../../agent/netfilter/nat_chains.ts";
import { policyChains, profileChains } from "../../../agent/netfilter/policy_chains.ts";
import { forwardEnd, staticChains } from "../../../agent/netfilter/static_chains.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

interface GoPolicy {
  Kind: string;
  Namespace?: string;
  Name: string;
}

interface GoTier {
  name: string;
  defaultAction: "Deny" | "Pass";
  ingress?: { selector: string; policies: GoPolicy[] }[];
  egress?: { selector: string; policies: GoPolicy[] }[];
}

interface Input {
  kind: string;
  backend?: string;
  ipVersion?: 4 | 6;
  config?: Record<string, unknown>;
  policy: GoPolicy;
  tier: string;
  ingress?: StoredRule[];
  egress?: StoredRule[];
  untracked?: boolean;
  interface: string;
  adminUp?: boolean;
  tiers?: GoTier[];
  forwardTiers?: GoTier[];
  profiles?: string[];
  qos?: Record<string, number>;
  group: { selector: string; policies: GoPolicy[] };
  direction: Direction;
  interfaces: string[];
  defaultInterface?: string;
  applyOnForward?: boolean;
  table: Table | "forward-append";
  active: boolean;
  map: Record<string, string>;
  cidrs: string[];
  dscp: { SrcAddrs: string; Value: number }[];
}

/** render.json: our chains as text, which is Felix's to the letter, hashes too. */
export const runner: CaseRunner = {
  run(one: Case): Outcome {
    const input = one.input as unknown as Input;
    const expected = (one.expect as { chains: { name: string; rules: string[] }[] }).chains;
    if (input.backend === "nft") {
      return { is: "differs", reason: "the nftables backend is not built yet: iptables only" };
    }
    const { chains, settings } = renderedCase(one);
    const text = (name: string, lines: string[]) => `:${name}\n${lines.join("\n")}`;
    const options = { family: settings.family, randomFully: true };
    const got = chains.map((c) => text(c.name, chainLines(c, options).lines)).join("\n");
    const want = (expected ?? []).map((c) => text(c.name, c.rules)).join("\n");
    return got === want ? { is: "passed" } : { is: "failed", difference: `expected\n${want}\ngot\n${got}` };
  },
};

/** What we render for a case, and the settings that it asks for. */
export function renderedCase(one: Case): { chains: Chain[]; settings: NetfilterSettings } {
  const input = one.input as unknown as Input;
  const settings = settingsOf(input);
  return { chains: renderers[input.kind]!(input, settings), settings };
}

const policyOf = (p: GoPolicy) => ({
  kind: p.Kind,
  namespace: p.Namespace || undefined,
  name: p.Name,
  staged: p.Kind.startsWith("Staged"),
});
const groupOf = (g: { selector: string; policies: GoPolicy[] }): PolicyGroup => ({
  selector: g.selector,
  policies: g.policies.map(policyOf),
});
const tiersOf = (tiers: GoTier[] | undefined): endpoint.GroupedTier[] =>
  (tiers ?? []).map((t) => ({ ...t, ingress: (t.ingress ?? []).map(groupOf), egress: (t.egress ?? []).map(groupOf) }));

function endpointOf(i: Input): endpoint.EndpointChainsInput & { forwardTiers: endpoint.GroupedTier[] } {
  const limits = (d: string) => ({
    packetsPerS: i.qos?.[`${d}PacketRate`],
    packetBurst: i.qos?.[`${d}PacketBurst`],
    connections: i.qos?.[`${d}MaxConnections`],
  });
  return {
    interfaceName: i.interface,
    up: i.adminUp ?? true,
    tiers: tiersOf(i.tiers),
    forwardTiers: tiersOf(i.forwardTiers),
    profiles: i.profiles ?? [],
    limits: { ingress: limits("Ingress"), egress: limits("Egress") },
  };
}

const rulesOf = (rules: StoredRule[] | undefined, namespace: string) =>
  (rules ?? []).map((r) => parseRule(r, namespace).parsed!.rule);

const renderers: Record<string, (i: Input, s: NetfilterSettings) => Chain[]> = {
  policy(i, s) {
    const { Kind: kind, Namespace: namespace, Name: name } = i.policy;
    const policy = {
      ...{ id: "", kind, namespace: namespace || undefined, name, tier: i.tier, staged: kind.startsWith("Staged") },
      ...{
        selector: "",
        doNotTrack: i.untracked ?? false,
        preDnat: false,
        applyOnForward: false,
        performanceHints: [],
      },
      ingress: rulesOf(i.ingress, namespace ?? ""),
      egress: rulesOf(i.egress, namespace ?? ""),
    } satisfies ActivePolicy;
    return policyChains(policy, s);
  },
  profile: (i, s) =>
    profileChains({
      name: i.policy.Name,
      missing: false,
      ingress: rulesOf(i.ingress, ""),
      egress: rulesOf(i.egress, ""),
    }, s),
  workload: (i, s) => endpoint.workloadChains(endpointOf(i), s),
  "host-filter": (i, s) => endpoint.hostFilterChains(endpointOf(i), s),
  "host-raw": (i, s) => endpoint.hostRawChains(endpointOf(i), s),
  "host-prednat": (i, s) => endpoint.hostPreDnatChains(endpointOf(i), s),
  "host-mangle-egress": (i, s) => endpoint.hostMangleEgressChains(endpointOf(i), s),
  "policy-group": (i, s) => [endpoint.groupChain(groupOf(i.group), i.direction, s)],
  "workload-dispatch": (i, s) => dispatch.workloadDispatch(i.interfaces, s),
  "host-dispatch": (i) => {
    const chains = dispatch.hostFilterDispatch({
      interfaces: i.interfaces,
      wildcard: i.defaultInterface === anyInterface,
    });
    return i.applyOnForward ? chains : chains.filter((c) => !c.name.includes("hep-forward"));
  },
  static: (i, s) =>
    i.table === "forward-append" ? [{ name: "FORWARD*appends*", rules: forwardEnd(s) }] : staticChains(i.table, s),
  "nat-outgoing": (i, s) => [nat.natOutgoingChain(i.active, s)],
  "fip-dnat": (i) => [nat.floatingInChain(new Map(Object.entries(i.map)))],
  "fip-snat": (i) => [nat.floatingOutChain(new Map(Object.entries(i.map)))],
  "cidr-block": (i, s) => [nat.serviceLoopChain(i.cidrs, s)],
  "egress-dscp": (i) => [nat.dscpChain(i.dscp.map((d) => ({ addresses: d.SrcAddrs, value: d.Value })))],
};

function settingsOf(i: Input): NetfilterSettings {
  const s = defaultSettings(i.ipVersion ?? 4);
  const c = i.config ?? {};
  const text = (name: string) => (c[name] as string | undefined)?.toLowerCase();
  const wireguard = c.Wireguard === true || c.WireguardV6 === true;
  const natPorts = /^(\d+):(\d+)$/.exec(String(c.NATPortRange ?? ""));
  const tunnels = [["IPIP", "tunl0"], ["VXLAN", "vxlan.calico"], ["Wireguard", "wireguard.cali"]]
    .filter(([name]) => c[name!] && c[`${name}TunnelAddress`]).map(([, device]) => device!);
  return {
    ...s,
    marks: marksOf((c.MarkMask as number | undefined) ?? 0xffff0000, wireguard)!,
    filterAllow: (text("FilterAllowAction") as "return") ?? s.filterAllow,
    mangleAllow: (text("MangleAllowAction") as "return") ?? s.mangleAllow,
    deny: (text("FilterDenyAction") as "reject") ?? s.deny,
    endpointToHost: (text("DefaultEndpointToHostAction") as "accept") ?? s.endpointToHost,
    vxlan: (i.ipVersion === 6 ? c.VXLANV6 : c.VXLAN) === true,
    vxlanPort: (c.VXLANPort as number) ?? s.vxlanPort,
    ipip: c.IPIP === true,
    wireguardPort: wireguard ? (i.ipVersion === 6 ? 51821 : 51820) : undefined,
    wireguardHostEncryption: c.WireguardHostEncryptionEnabled === true,
    tunnels,
    allowVxlanFromWorkloads: c.AllowVXLANPacketsFromWorkloads === true,
    allowIpipFromWorkloads: c.AllowIPIPPacketsFromWorkloads === true,
    conntrackInvalidCheck: c.DisableConntrackInvalidCheck !== true,
    failsafeIn: failsafesOf(c.FailsafeInbound) ?? s.failsafeIn,
    failsafeOut: failsafesOf(c.FailsafeOutbound) ?? s.failsafeOut,
    logPrefix: (c.LogPrefix as string) ?? s.logPrefix,
    logLimit: c.LogActionRateLimit
      ? { rate: c.LogActionRateLimit as string, burst: (c.LogActionRateLimitBurst as number) ?? 5 }
      : undefined,
    flowLogs: c.FlowLogs === true,
    natPorts: natPorts ? { min: Number(natPorts[1]), max: Number(natPorts[2]) } : undefined,
    natOutgoingAddress: c.NATOutgoingAddress as string | undefined,
    natOutgoingInterface: c.NATOutgoingInterfaceFilter as string | undefined,
    natExcludesHosts: c.NATOutgoingExclusions === "IPPoolsAndHostIPs",
    serviceLoops: (text("ServiceLoopPrevention") as "reject") ?? s.serviceLoops,
  };
}

/** `tcp:10.0.0.0/8:22,udp:[fd00::/8]:68,tcp:80`, or `none`. */
function failsafesOf(value: unknown): Failsafe[] | undefined {
  if (typeof value !== "string") return undefined;
  if (value === "none") return [];
  return value.split(",").map((entry) => {
    const [, protocol, net, port] = /^(\w+):(?:\[?([^\]]+?)\]?:)?(\d+)$/.exec(entry)!;
    return { protocol: protocol!, port: Number(port), net };
  });
}
