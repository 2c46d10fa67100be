import { type Cidr, type Ip, sameIp } from "../../lib/ip.ts";
import type { Direction, PolicedEndpoint, PolicyDelta } from "../desired_policy.ts";
import { applyDelta } from "./apply_delta.ts";
import { emptyState, type PolicyState } from "./from_scratch.ts";
import { type Packet, verdictOf } from "./verdict.ts";

/** A tracked flow: its first packet as the filter rules saw it, after the destination was translated. */
export type JudgedFlow = Packet;

/** Says of tracked flows whether policy would let them begin now. Follows the calculation by its deltas. */
export class FlowJudge {
  readonly #state: PolicyState = emptyState();
  /** Workloads of this node by address. */
  #byAddress: Map<string, PolicedEndpoint> | undefined;

  /** @param all what is in force, as a delta from nothing. */
  constructor(all: PolicyDelta) {
    this.update(all);
  }

  /** What changed in what is in force. */
  update(delta: PolicyDelta): void {
    applyDelta(this.#state, delta);
    this.#byAddress = undefined;
  }

  /**
   * True when a workload of this node may not send it, or another one may not get it. What the host itself sends to its
   * workloads is always let through.
   * @param own addresses of this host.
   */
  denies(flow: JudgedFlow, own: readonly Ip[]): boolean {
    const from = this.#at(flow.src), to = this.#at(flow.dst);
    const denied = (endpoint: PolicedEndpoint, direction: Direction) =>
      verdictOf(this.#state, endpoint, direction, flow).verdict === "deny";
    if (from && denied(from, "egress")) return true;
    return to !== undefined && !own.some((ip) => sameIp(ip, flow.src)) && denied(to, "ingress");
  }

  #at(ip: Ip): PolicedEndpoint | undefined {
    this.#byAddress ??= this.#addresses();
    return this.#byAddress.get(keyOf(ip));
  }

  #addresses(): Map<string, PolicedEndpoint> {
    const found = new Map<string, PolicedEndpoint>();
    for (const endpoint of this.#state.endpoints.values()) {
      if (endpoint.kind !== "workload") continue;
      for (const net of endpoint.nets) found.set(keyOf(net), endpoint);
    }
    return found;
  }
}

const keyOf = ({ v, n }: Ip | Cidr): string => `${v} ${n}`;
