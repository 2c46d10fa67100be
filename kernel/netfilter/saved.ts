import { Problem } from "../../lib/problem.ts";
import { hashOf, type HaveChain, type HookedRule, isOwnChain, type TableName, targetOf } from "./chain.ts";

/** A table as iptables-save shows it, as far as it concerns us. */
export interface SavedTable {
  /** Chains whose name is of ours. */
  chains: Map<string, HaveChain>;
  /** Rules of the kernel's chains, and of others' chains that hold a rule of ours, in order. */
  hooked: Map<string, HookedRule[]>;
}

/**
 * Reads what `iptables-save -t <table>` printed. In chains that are not ours a rule is ours when it has our hash or leads
 * to a chain of ours.
 * @throws Problem "kernel" when the text is not whole, or the table holds what iptables cannot show.
 */
export function parseSaved(text: string, table: TableName, ownPrefixes: readonly string[]): SavedTable {
  const lines = text.split("\n");
  checkWhole(lines, table);
  const own = new Map<string, { hashes: string[]; refs: Set<string> }>();
  const others = new Map<string, { rules: HookedRule[]; keep: boolean }>();
  for (const line of lines) {
    if (line.startsWith(":")) {
      const [name, policy] = line.slice(1).split(" ") as [string, string];
      if (isOwnChain(name, ownPrefixes)) own.set(name, { hashes: [], refs: new Set() });
      else others.set(name, { rules: [], keep: policy !== "-" });
    } else if (line.startsWith("-A ")) {
      const name = line.slice(3, line.indexOf(" ", 3) < 0 ? undefined : line.indexOf(" ", 3));
      const target = targetOf(line), hash = hashOf(line);
      const ours = target !== undefined && isOwnChain(target, ownPrefixes);
      const chain = own.get(name);
      if (chain) {
        chain.hashes.push(hash ?? "");
        if (ours) chain.refs.add(target);
      } else {
        const other = others.get(name);
        other?.rules.push(ours || hash !== undefined ? { hash: hash ?? "", line } : undefined);
        if (other && (ours || hash !== undefined)) other.keep = true;
      }
    }
  }
  return {
    chains: new Map([...own].map(([name, c]) => [name, { hashes: c.hashes, refs: [...c.refs] }])),
    hooked: new Map([...others].filter(([, c]) => c.keep).map(([name, c]) => [name, c.rules])),
  };
}

/** A table that nobody has used yet is not printed at all by the nft variant. */
function checkWhole(lines: string[], table: TableName): void {
  const foreign = lines.find((l) => l.startsWith("# Table `") && l.includes("is incompatible"));
  if (foreign) {
    throw new Problem({
      code: "kernel",
      what: `table ${table} holds rules that iptables cannot show: ${foreign.slice(2)}`,
      todo: "Remove what another program wrote into it with nft, or let that program use a table of its own",
    });
  }
  if (!lines.includes(`*${table}`)) return;
  if (!lines.includes("COMMIT")) throw new Problem({ code: "kernel", what: `table ${table} was not read to its end` });
}
