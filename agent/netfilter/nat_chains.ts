import { type Cidr, type Family, formatCidr } from "../../lib/ip.ts";
import { type Action, type Chain, type Match, type NetfilterSettings, type NetRule, rule as line } from "./model.ts";

/** `cali-nat-outgoing`: packets of pools with natOutgoing that leave all pools get the host's address. */
export function natOutgoingChain(active: boolean, s: NetfilterSettings): Chain {
  const name = "cali-nat-outgoing";
  if (!active) return { name, rules: [] };
  const match: Match[] = [
    { is: "set", side: "source", set: "masq-ipam-pools" },
    { is: "set", side: "destination", set: "network-ip-pools", not: true },
  ];
  if (s.natExcludesHosts) match.push({ is: "set", side: "destination", set: "all-hosts-net", not: true });
  if (s.natOutgoingInterface) match.push({ is: "interface", direction: "out", name: s.natOutgoingInterface });
  const change = (ports?: NetfilterSettings["natPorts"]): Action =>
    s.natOutgoingAddress ? { is: "snat", to: s.natOutgoingAddress, ports } : { is: "masquerade", ports };
  const rules: NetRule[] = [];
  for (const protocol of s.natPorts ? ["tcp", "udp"] : []) {
    const of: Match[] = [...match, { is: "protocol", protocol }];
    rules.push(line(of, change(s.natPorts)), line(of, { is: "return" }));
  }
  return { name, rules: [...rules, line(match, change())] };
}

/** `cali-fip-dnat`: external addresses become those of their workloads. @param internal by external address. */
export function floatingInChain(internal: ReadonlyMap<string, string>): Chain {
  const rules = [...internal].sort(([a], [b]) => (a < b ? -1 : 1)).map(([external, to]) =>
    line([{ is: "net", side: "destination", net: external }], { is: "dnat", to })
  );
  return { name: "cali-fip-dnat", rules };
}

/** `cali-fip-snat`: a workload that calls its own external address. @param external by internal address. */
export function floatingOutChain(external: ReadonlyMap<string, string>): Chain {
  const rules = [...external].sort(([a], [b]) => (a < b ? -1 : 1)).map(([internal, to]) =>
    line([{ is: "net", side: "destination", net: internal }, { is: "net", side: "source", net: internal }], {
      is: "snat",
      to,
    })
  );
  return { name: "cali-fip-snat", rules };
}

/** `cali-cidr-block`: packets to service addresses that nobody translated must not go round between us and the router. */
export function serviceLoopChain(cidrs: string[], s: NetfilterSettings): Chain {
  const name = "cali-cidr-block";
  if (s.serviceLoops === "disabled") return { name, rules: [] };
  const action: Action = { is: s.serviceLoops };
  const mine = cidrs.filter((c) => c.includes(":") === (s.family === 6)).sort();
  return { name, rules: mine.map((net) => line([{ is: "net", side: "destination", net }], action)) };
}

/** `cali-egress-dscp`: the DSCP of endpoints that ask for one. */
export function dscpChain(entries: { addresses: string; value: number }[]): Chain {
  return {
    name: "cali-egress-dscp",
    rules: entries.map((e) => line([{ is: "net", side: "source", net: e.addresses }], { is: "dscp", value: e.value })),
  };
}

/**
 * `cali-rpf-skip`: packets that a workload may send with another source than its own.
 * Source: Calico's felix/dataplane/linux/endpoint_mgr.go (WorkloadSourceSpoofing).
 */
export function spoofChain(spoofs: ReadonlyMap<string, readonly Cidr[]>, family: Family): Chain {
  const rules = [...spoofs].flatMap(([name, nets]) =>
    nets.filter((net) => net.v === family).map((net) =>
      line([{ is: "interface", direction: "in", name }, { is: "net", side: "source", net: formatCidr(net) }], {
        is: "accept",
      })
    )
  );
  return { name: "cali-rpf-skip", rules };
}
