import { formatCidr } from "../../lib/ip.ts";
import type { PolicedEndpoint, PolicyDelta } from "../desired_policy.ts";

/** What only one workload of this node can have: its interface, its addresses. Follows the calculation by its deltas. */
export class Claims {
  readonly #claims = new Map<string, Set<string>>();
  readonly #ofEndpoint = new Map<string, string[]>();
  /** Those with several claimants. */
  readonly #contested = new Set<string>();

  /** What changed in what is in force. */
  update({ endpoints, endpointsRemoved }: Pick<PolicyDelta, "endpoints" | "endpointsRemoved">): void {
    for (const id of endpointsRemoved) this.#set(id, []);
    for (const endpoint of endpoints) this.#set(endpoint.id, claimsOf(endpoint));
  }

  /** Endpoints that claim what another one claims, too, with the reason. An interface is the first one's by its id. */
  conflicts(): Map<string, string> {
    const found = new Map<string, string>();
    for (const claim of [...this.#contested].sort()) {
      const [first, ...others] = [...this.#claims.get(claim)!].sort() as [string, ...string[]];
      const isInterface = claim.startsWith("interface ");
      const why = isInterface ? `${claim} belongs to ${first}` : `${claim} is claimed by ${first}, too`;
      for (const id of others) found.set(id, found.has(id) ? `${found.get(id)}; ${why}` : why);
    }
    return found;
  }

  #set(id: string, now: string[]): void {
    for (const claim of this.#ofEndpoint.get(id) ?? []) {
      this.#claims.get(claim)?.delete(id);
      this.#note(claim);
    }
    for (const claim of now) {
      const claimants = this.#claims.get(claim) ?? new Set();
      this.#claims.set(claim, claimants.add(id));
      this.#note(claim);
    }
    if (now.length > 0) this.#ofEndpoint.set(id, now);
    else this.#ofEndpoint.delete(id);
  }

  #note(claim: string): void {
    const claimants = this.#claims.get(claim)?.size ?? 0;
    if (claimants > 1) this.#contested.add(claim);
    else this.#contested.delete(claim);
    if (claimants === 0) this.#claims.delete(claim);
  }
}

function claimsOf({ kind, interfaceName, nets }: PolicedEndpoint): string[] {
  if (kind !== "workload") return [];
  return [`interface ${interfaceName}`, ...new Set(nets.map((net) => `address ${formatCidr(net)}`))];
}
