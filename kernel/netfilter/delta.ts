import { type Content, type HaveChain, type Hook, type HookedRule, sameHashes, type Variant } from "./chain.ts";

/** One chain that has to change. `to` undefined = it goes; `from` undefined = it is new. */
export interface ChainStep {
  name: string;
  from: HaveChain | undefined;
  to: Content | undefined;
}

/** One chain that is not ours and in which our rules are not where they should be. */
export interface HookStep {
  chain: string;
  have: readonly HookedRule[];
  want: readonly HookedRule[];
}

/** What is given to iptables-restore. */
export interface RestoreText {
  text: string;
  /** To which chain each line belongs, by line number - 1; undefined = to none alone (hooks, COMMIT). */
  owners: (string | undefined)[];
  /** By how many the table's entries in the kernel grow (legacy counts two for each chain beside its rules). */
  entries: number;
  /** Rules written or deleted. */
  lines: number;
}

/**
 * The text that makes the steps in one go: new chains before who uses them, deletions last. legacy: rule by rule, so that
 * the counters of untouched rules stay. nft: a changed chain is written anew, and deletions are a second transaction,
 * because iptables-nft cannot delete a chain in the transaction that removes the last jump to it.
 */
export function restoreText(table: string, variant: Variant, steps: ChainStep[], hooks: HookStep[]): RestoreText {
  const out = new Lines(table);
  const puts = steps.filter((s) => s.to !== undefined), gone = steps.filter((s) => s.to === undefined);
  const nft = variant === "nft";
  // Numbers of lines are no numbers of rules where a line makes several rules.
  const rewritten = ({ from, to }: ChainStep) => nft || !from || to!.lines.length !== to!.hashes.length;
  for (const step of puts) if (rewritten(step)) out.add(`:${step.name} - -`, step.name);
  if (!nft) { for (const step of gone) out.add(`:${step.name} - -`, step.name); }
  for (const step of puts) {
    if (rewritten(step)) step.to!.lines.forEach((line) => out.rule(line, step.name));
    else changeRules(out, step);
  }
  for (const hook of hooks) moveHook(out, hook);
  if (nft && gone.length > 0) {
    if (puts.length + hooks.length > 0) out.commit();
    for (const step of gone) out.add(`:${step.name} - -`, step.name);
  }
  for (const step of gone) out.add(`--delete-chain ${step.name}`, step.name);
  return { ...out.end(), entries: entriesOf(steps, hooks) };
}

class Lines {
  readonly #lines: string[];
  readonly #owners: (string | undefined)[] = [undefined];
  #rules = 0;
  constructor(private readonly table: string) {
    this.#lines = [`*${table}`];
  }
  add(line: string, owner?: string): void {
    this.#lines.push(line);
    this.#owners.push(owner);
  }
  rule(line: string, owner?: string): void {
    this.add(line, owner);
    this.#rules++;
  }
  commit(): void {
    this.add("COMMIT");
    this.add(`*${this.table}`);
  }
  end(): { text: string; owners: (string | undefined)[]; lines: number } {
    this.add("COMMIT");
    return { text: this.#lines.join("\n") + "\n", owners: this.#owners, lines: this.#rules };
  }
}

function changeRules(out: Lines, { name, from, to }: ChainStep): void {
  const have = from!.hashes, { hashes: want, lines } = to!;
  const prefix = `-A ${name}`;
  for (let i = 0; i < want.length; i++) {
    if (i >= have.length) out.rule(lines[i]!, name);
    else if (have[i] !== want[i]) out.rule(`-R ${name} ${i + 1}${lines[i]!.slice(prefix.length)}`, name);
  }
  for (let i = want.length; i < have.length; i++) out.rule(`-D ${name} ${want.length + 1}`, name);
}

/** By value and never by number: somebody else may change the chain while we write. */
function moveHook(out: Lines, { chain, have, want }: HookStep): void {
  for (const rule of have) if (rule) out.rule(`-D${rule.line.slice(2)}`);
  const { inserted, appended } = sides(want);
  for (const rule of inserted.toReversed()) out.rule(`-I ${chain} 1${rule.line.slice(`-A ${chain}`.length)}`);
  for (const rule of appended) out.rule(rule.line);
}

type Ours = NonNullable<HookedRule>;

/** Our rules before the first and after the last that is not ours; without any they are all before. */
function sides(rules: readonly HookedRule[]): { inserted: Ours[]; appended: Ours[] } {
  const first = rules.indexOf(undefined), last = rules.lastIndexOf(undefined);
  const ours = (part: readonly HookedRule[]) => part.filter((r) => r !== undefined);
  if (first < 0) return { inserted: ours(rules), appended: [] };
  return { inserted: ours(rules.slice(0, first)), appended: ours(rules.slice(last + 1)) };
}

/** How a chain that is not ours should look: ours at its top, the others as they are, ours at its end. */
export function wantedHooks(have: readonly HookedRule[], hooks: readonly Hook[]): HookedRule[] {
  const ours = (append: boolean) =>
    hooks.filter((h) => h.append === append).flatMap((h) => h.lines.map((line, i) => ({ hash: h.hashes[i]!, line })));
  return [...ours(false), ...have.filter((r) => r === undefined), ...ours(true)];
}

/** True when our rules are where they should be. */
export const hooksAgree = (have: readonly HookedRule[], want: readonly HookedRule[]): boolean =>
  have.length === want.length && have.every((rule, i) => rule?.hash === want[i]?.hash);

function entriesOf(steps: ChainStep[], hooks: HookStep[]): number {
  const size = (chain: HaveChain | undefined) => (chain ? chain.hashes.length + 2 : 0);
  return steps.reduce((n, s) => n + size(s.to) - size(s.from), 0) +
    hooks.reduce((n, h) => n + h.want.length - h.have.length, 0);
}

/** Steps in such an order that each chain comes after the new chains that it leads to. */
export function calleesFirst(steps: readonly ChainStep[]): ChainStep[] {
  const byName = new Map(steps.map((s) => [s.name, s]));
  const done: ChainStep[] = [];
  const visit = (name: string) => {
    const step = byName.get(name);
    if (!step) return;
    byName.delete(name);
    step.to?.refs.forEach(visit);
    done.push(step);
  };
  for (const { name } of steps) visit(name);
  return done;
}

/** True when a chain in the kernel is as wanted. */
export const agrees = (have: HaveChain | undefined, want: Content | undefined): boolean =>
  have === undefined ? want === undefined : want !== undefined && sameHashes(have.hashes, want.hashes);
