import { contains, tryParseCidrOrIp } from "../../lib/ip.ts";
import {
  type Decider,
  numberOf,
  type Packet,
  type Stage as PolicyStage,
  type Verdict,
  verdictOf,
} from "../calc/verdict.ts";
import type { PolicyState } from "../calc/from_scratch.ts";
import type { Direction, PolicedEndpoint } from "../desired_policy.ts";
import type { HostInterfaces } from "../netfilter/host_interfaces.ts";
import type { Failsafe, NetfilterSettings } from "../netfilter/model.ts";
import { discoveryTypes } from "../netfilter/static_chains.ts";

/** Everything of a node that decides on packets. */
export interface NodeRules {
  node: string;
  state: PolicyState;
  hosts: HostInterfaces;
  /** Of the packet's version. */
  settings: NetfilterSettings;
  serviceCidrs: readonly string[];
}

/** Where a packet comes from, or goes to, on a node. */
export type Side =
  | { is: "workload"; endpoint: PolicedEndpoint }
  | { is: "host" }
  | { is: "interface"; name: string };

/** Who decided at a stage, beside policy. */
export type StageDecider =
  | Decider
  | { by: "failsafe"; port: number; protocol: string; net?: string; answer?: true }
  | { by: "neighbour discovery" }
  | { by: "no host endpoint" }
  | { by: "accepted by an earlier table" }
  | { by: "the host reaches its own workloads" }
  | { by: "DefaultEndpointToHostAction"; action: string }
  | { by: "tunnelled packets of workloads" }
  | { by: "service loop prevention"; cidr: string };

/** One place of a packet's way where it is judged. */
export interface Stage {
  node: string;
  /** Which of an endpoint's chains, or `host` for what is no endpoint's. */
  at: "normal" | "forward" | "preDNAT" | "untracked" | "host";
  direction: Direction;
  /** Endpoint whose policy is asked. */
  endpoint?: string;
  interfaceName?: string;
  /** `continue`: goes on, and nothing is decided. */
  verdict: "allow" | "deny" | "continue";
  decider: StageDecider;
  logged: Verdict["logged"];
  /** As it was there. */
  packet: Packet;
}

/**
 * The way of a flow's first packet through a node, as its chains lead it: raw, mangle, then filter. The last stage is a
 * denial, or the packet passes.
 * Source: Calico's felix/rules (static.go, endpoints.go, dispatch.go).
 */
export function walkNode(rules: NodeRules, from: Side, to: Side, packet: Packet): { stages: Stage[]; passes: boolean } {
  const walk = new NodeWalk(rules, packet);
  return { passes: walk.run(from, to), stages: walk.stages };
}

class NodeWalk {
  readonly stages: Stage[] = [];
  /** An earlier table has let it pass for good. */
  #accepted = false;

  constructor(private readonly rules: NodeRules, private readonly packet: Packet) {}

  run(from: Side, to: Side): boolean {
    if (from.is === "host" && to.is === "host") {
      const lo: Side = { is: "interface", name: "lo" };
      return this.run(from, lo) && this.run(lo, to);
    }
    if (from.is === "host") return this.#output(to);
    if (!this.#before(from)) return false;
    if (to.is === "host") return from.is === "workload" ? this.#workloadToHost(from.endpoint) : this.#input(from.name);
    return this.#forward(from, to);
  }

  /** Raw and mangle, before it is known where the packet goes. */
  #before(from: Exclude<Side, { is: "host" }>): boolean {
    const name = nameOf(from);
    const untracked = from.is === "interface" ? this.rules.hosts.named.get(name) : undefined;
    if (untracked && !this.#untracked(untracked, name, "ingress")) return false;
    const host = this.#hostAt(name);
    if (this.#accepted || !host || host.preDnatTiers.length === 0) return true;
    if (this.#failsafe(host, name, "preDNAT", "ingress")) return true;
    const { verdict } = this.#policy(host, name, "preDNAT", "ingress");
    this.#accepted = verdict === "allow";
    return verdict !== "deny";
  }

  #untracked(host: PolicedEndpoint, name: string, direction: Direction): boolean {
    if (host.untrackedTiers.length === 0 || this.#failsafe(host, name, "untracked", direction)) return true;
    const { verdict } = this.#policy(host, name, "untracked", direction);
    this.#accepted = verdict === "allow";
    return verdict !== "deny";
  }

  #input(name: string): boolean {
    if (this.#accepted) return this.#told("ingress", "allow", { by: "accepted by an earlier table" });
    return this.#own(name, "ingress");
  }

  #output(to: Exclude<Side, { is: "host" }> | Side): boolean {
    if (to.is === "workload") return this.#told("egress", "allow", { by: "the host reaches its own workloads" });
    if (to.is === "host") return true;
    const named = this.rules.hosts.named.get(to.name);
    if (named && !this.#untracked(named, to.name, "egress")) return false;
    if (this.#accepted) return this.#told("egress", "allow", { by: "accepted by an earlier table" });
    return this.#own(to.name, "egress");
  }

  /** The host's own traffic at an interface. */
  #own(name: string, direction: Direction): boolean {
    const host = this.#hostAt(name);
    if (!host) return this.#told(direction, "allow", { by: "no host endpoint" }, name);
    return this.#failsafe(host, name, "normal", direction) ||
      this.#policy(host, name, "normal", direction).verdict === "allow";
  }

  #workloadToHost(endpoint: PolicedEndpoint): boolean {
    const { settings } = this.rules;
    const discovery = [130, 131, 132, 133, 135, 136];
    if (settings.family === 6 && this.packet.icmp && discovery.includes(this.packet.icmp.type)) {
      return this.#told("egress", "allow", { by: "neighbour discovery" });
    }
    if (!this.#workload(endpoint, "egress")) return false;
    const action = settings.endpointToHost, denies = action === "drop" || action === "reject";
    return this.#told("ingress", denies ? "deny" : "allow", { by: "DefaultEndpointToHostAction", action });
  }

  #forward(from: Exclude<Side, { is: "host" }>, to: Exclude<Side, { is: "host" }>): boolean {
    if (!this.#accepted && !this.#forwarded(nameOf(from), "ingress")) return false;
    if (from.is === "workload" && !this.#workload(from.endpoint, "egress")) return false;
    if (to.is === "workload" && !this.#workload(to.endpoint, "ingress")) return false;
    if (!this.#forwarded(nameOf(to), "egress")) return false;
    const loop = this.rules.settings.serviceLoops === "disabled" ? undefined : this.rules.serviceCidrs.find((text) => {
      const cidr = tryParseCidrOrIp(text);
      return cidr !== undefined && contains(cidr, this.packet.dst);
    });
    return loop === undefined || this.#told("egress", "deny", { by: "service loop prevention", cidr: loop });
  }

  #forwarded(name: string, direction: Direction): boolean {
    const host = this.#hostAt(name);
    return !host || this.#policy(host, name, "forward", direction).verdict !== "deny";
  }

  #workload(endpoint: PolicedEndpoint, direction: Direction): boolean {
    const { settings } = this.rules, { protocol, dstPort } = this.packet, name = endpoint.interfaceName;
    const vxlan = protocol === 17 && dstPort === settings.vxlanPort && !settings.allowVxlanFromWorkloads;
    if (direction === "egress" && (vxlan || protocol === 4 && !settings.allowIpipFromWorkloads)) {
      return this.#told(direction, "deny", { by: "tunnelled packets of workloads" }, name);
    }
    return this.#policy(endpoint, name, "normal", direction).verdict === "allow";
  }

  #hostAt(name: string): PolicedEndpoint | undefined {
    return this.rules.hosts.named.get(name) ?? this.rules.hosts.wildcard;
  }

  #policy(endpoint: PolicedEndpoint, interfaceName: string, at: PolicyStage, direction: Direction): Verdict {
    const verdict = verdictOf(this.rules.state, endpoint, direction, this.packet, at);
    this.#push({ at, direction, endpoint: endpoint.id, interfaceName, ...verdict });
    return verdict;
  }

  /** True when a failsafe port, or neighbour discovery beside it, lets the packet go on. */
  #failsafe(host: PolicedEndpoint, interfaceName: string, at: Stage["at"], direction: Direction): boolean {
    const decider = this.#failsafeOf(at, direction);
    if (decider) {
      this.#push({ at, direction, endpoint: host.id, interfaceName, verdict: "allow", decider, logged: [] });
    }
    return decider !== undefined;
  }

  #failsafeOf(at: Stage["at"], direction: Direction): StageDecider | undefined {
    const { settings } = this.rules, { packet } = this, isIn = direction === "ingress";
    if (settings.family === 6 && packet.icmp && discoveryTypes.includes(packet.icmp.type)) {
      return { by: "neighbour discovery" };
    }
    const peer = isIn ? packet.src : packet.dst;
    const has = (port: number) => ({ protocol, net, port: own }: Failsafe): boolean => {
      const cidr = net === undefined ? undefined : tryParseCidrOrIp(net);
      return numberOf(protocol) === packet.protocol && own === port &&
        (net === undefined || !!cidr && contains(cidr, peer));
    };
    const [asked, answered] = isIn
      ? [settings.failsafeIn, settings.failsafeOut]
      : [settings.failsafeOut, settings.failsafeIn];
    const found = asked.find(has(packet.dstPort));
    if (found) return { by: "failsafe", ...found };
    // In raw, where flows are not known, answers need rules of their own.
    const answer = at === "untracked" ? answered.find(has(packet.srcPort)) : undefined;
    return answer && { by: "failsafe", ...answer, answer: true };
  }

  #told(direction: Direction, verdict: "allow" | "deny", decider: StageDecider, interfaceName?: string): boolean {
    this.#push({ at: "host", direction, verdict, decider, interfaceName, logged: [] });
    return verdict === "allow";
  }

  #push(stage: Omit<Stage, "node" | "packet">): void {
    this.stages.push({ node: this.rules.node, packet: this.packet, ...stage });
  }
}

const nameOf = (side: Exclude<Side, { is: "host" }>): string =>
  side.is === "workload" ? side.endpoint.interfaceName : side.name;
