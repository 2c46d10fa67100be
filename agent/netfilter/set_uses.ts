import type { Rule, SetId } from "../desired_policy.ts";
import { setName } from "./names.ts";

/** The part of a policy or a profile that looks into sets. */
type RuleLists = { readonly ingress: readonly Rule[]; readonly egress: readonly Rule[] };

/**
 * Whether rules allow or deny by a set: when members and rules change together, the order of the two depends on it. What
 * rules were until now counts until forgetOld(): packets meet them until the new ones are written.
 */
export class SetUses {
  /** By the set's name in the kernel: rules that a further member makes match more often, and by which they deny. */
  readonly #opening = new Map<string, number>();
  readonly #closing = new Map<string, number>();
  #old: RuleLists[] = [];

  /** These rules stand where those stood. */
  replace(before: RuleLists | undefined, now: RuleLists | undefined): void {
    if (before) this.#old.push(before);
    if (now) this.#count(now, 1);
  }

  /** The rules that were replaced are not in the kernel any more, or will not be when the next sets are written. */
  forgetOld(): void {
    for (const rules of this.#old.splice(0)) this.#count(rules, -1);
  }

  /** True when a further member only denies. */
  closes(name: string): boolean {
    return this.#closing.has(name) && !this.#opening.has(name);
  }

  #count({ ingress, egress }: RuleLists, by: number): void {
    for (const rule of [...ingress, ...egress]) {
      if (rule.action === "log") continue;
      for (const side of [rule.source, rule.destination]) {
        const denies = rule.action === "deny";
        for (const id of [...side.sets, ...side.namedPortSets, ...side.serviceSets]) this.#add(id, denies, by);
        for (const id of [...side.notSets, ...side.notNamedPortSets]) this.#add(id, !denies, by);
      }
    }
  }

  #add(id: SetId, closes: boolean, by: number): void {
    const counts = closes ? this.#closing : this.#opening;
    for (const family of [4, 6] as const) {
      const name = setName(id, family);
      const count = (counts.get(name) ?? 0) + by;
      if (count === 0) counts.delete(name);
      else counts.set(name, count);
    }
  }
}
