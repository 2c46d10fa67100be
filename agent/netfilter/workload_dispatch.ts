import {
  type Branch,
  branchOf,
  bucketOf,
  commonBeginning,
  type DispatchTree,
  rootOf,
  workloadTrees,
} from "./dispatch_chains.ts";
import type { Chain, NetfilterSettings } from "./model.ts";

/**
 * What workloadDispatch() makes, kept up to date: an interface that comes or goes costs the names of its bucket, and a
 * chain that stays as it was stays the same object.
 */
export class WorkloadDispatch {
  /** Sorted. */
  readonly #names: string[] = [];
  readonly #trees: { tree: DispatchTree; branches: Map<string, Branch>; root: Chain }[];
  readonly #touched = new Set<string>();
  #common = "";

  constructor(settings: Pick<NetfilterSettings, "deny">, interfaces: Iterable<string>) {
    this.#names.push(...new Set(interfaces));
    this.#names.sort();
    this.#trees = workloadTrees(settings).map((tree) => ({ tree, branches: new Map(), root: rootOf(tree, []) }));
    this.#common = commonBeginning(this.#names);
    this.#renew();
  }

  /** The interface is there, or not. */
  set(name: string, isThere: boolean): void {
    const at = this.#lowerBound(name);
    if ((this.#names[at] === name) === isThere) return;
    if (isThere) this.#names.splice(at, 0, name);
    else this.#names.splice(at, 1);
    this.#touched.add(name);
  }

  /** All chains, children before roots. */
  chains(): Chain[] {
    const common = commonBeginning(this.#names);
    if (common !== this.#common) {
      this.#common = common;
      this.#renew();
    } else for (const bucket of new Set([...this.#touched].map((n) => bucketOf(n, common)))) this.#branch(bucket);
    this.#touched.clear();
    return this.#trees.flatMap(({ branches, root }) => [...[...branches.values()].flatMap((b) => b.child ?? []), root]);
  }

  #renew(): void {
    for (const one of this.#trees) {
      one.branches.clear();
      one.root = rootOf(one.tree, []);
    }
    for (const bucket of new Set(this.#names.map((n) => bucketOf(n, this.#common)))) this.#branch(bucket);
  }

  #branch(bucket: string): void {
    const members = this.#membersOf(bucket);
    for (const one of this.#trees) {
      const before = one.branches.get(bucket);
      const now = members.length > 0 ? branchOf(one.tree, this.#common, bucket, members) : undefined;
      if (now) one.branches.set(bucket, now);
      else one.branches.delete(bucket);
      // The root only tells a bucket with one name from one with several.
      if (before?.child && now?.child) now.rule = before.rule;
      else one.root = rootOf(one.tree, this.#sorted(one.branches));
    }
  }

  #sorted(branches: Map<string, Branch>): Branch[] {
    return [...branches].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, branch]) => branch);
  }

  /** A name that is the common beginning itself is a bucket of its own. */
  #membersOf(bucket: string): string[] {
    const from = this.#lowerBound(bucket);
    if (bucket.length <= this.#common.length) return this.#names[from] === bucket ? [bucket] : [];
    let to = from;
    while (this.#names[to]?.startsWith(bucket)) to++;
    return this.#names.slice(from, to);
  }

  #lowerBound(name: string): number {
    let low = 0, high = this.#names.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#names[middle]! < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
