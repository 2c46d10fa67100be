import type { Family } from "../../lib/ip.ts";
import type { Chain, Table } from "./model.ts";

/** Where a chain lies. */
export interface Place {
  family: Family;
  table: Table;
}

/** A chain with its place. */
export interface PlacedChain extends Place {
  chain: Chain;
}

/** What changed in one table of one family. */
export interface TableChange extends Place {
  put: Chain[];
  remove: string[];
}

/**
 * Chains by who needs them: a policy, a profile, an endpoint. A chain that several need (a policy group) stays until the
 * last one lets go. Remembers what changed since the last flush.
 */
export class OwnedChains {
  #chains = new Map<string, PlacedChain & { owners: Set<string> }>();
  #ofOwner = new Map<string, Set<string>>();
  #dirty = new Map<string, Place & { name: string }>();

  /** From now on `owner` needs these chains and no others. A chain that is the same object as before has not changed. */
  own(owner: string, chains: PlacedChain[]): void {
    const before = this.#ofOwner.get(owner) ?? new Set<string>();
    const now = new Set<string>();
    for (const placed of chains) {
      const key = keyOf(placed, placed.chain.name);
      now.add(key);
      const known = this.#chains.get(key);
      known?.owners.add(owner);
      if (known?.chain === placed.chain) continue;
      if (known) known.chain = placed.chain;
      else this.#chains.set(key, { ...placed, owners: new Set([owner]) });
      this.#touch(placed, placed.chain.name);
    }
    for (const key of before) if (!now.has(key)) this.#release(key, owner);
    if (now.size > 0) this.#ofOwner.set(owner, now);
    else this.#ofOwner.delete(owner);
  }

  /** What changed since the last call, by table and family. */
  flush(): TableChange[] {
    const changes = new Map<string, TableChange>();
    for (const [key, place] of this.#dirty) {
      const { family, table, name } = place;
      const id = `${family} ${table}`;
      const change = changes.get(id) ?? { family, table, put: [], remove: [] };
      changes.set(id, change);
      const chain = this.#chains.get(key)?.chain;
      if (chain) change.put.push(chain);
      else change.remove.push(name);
    }
    this.#dirty.clear();
    return [...changes.values()];
  }

  /** All that somebody needs. */
  all(): Iterable<PlacedChain> {
    return this.#chains.values();
  }

  /** Who needs a chain of this name, in whatever place. */
  ownersOf(name: string): Set<string> {
    const found = new Set<string>();
    for (const family of [4, 6] as const) {
      for (const table of ["raw", "mangle", "nat", "filter", "security"] as const) {
        for (const owner of this.#chains.get(keyOf({ family, table }, name))?.owners ?? []) found.add(owner);
      }
    }
    return found;
  }

  #release(key: string, owner: string): void {
    const placed = this.#chains.get(key);
    if (!placed) return;
    placed.owners.delete(owner);
    if (placed.owners.size > 0) return;
    this.#chains.delete(key);
    this.#touch(placed, placed.chain.name);
  }

  #touch({ family, table }: Place, name: string): void {
    this.#dirty.set(keyOf({ family, table }, name), { family, table, name });
  }
}

const keyOf = ({ family, table }: Place, name: string): string => `${family} ${table} ${name}`;
