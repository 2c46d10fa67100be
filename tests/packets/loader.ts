import { chainLines, hashComment, ruleBody } from "../../agent/netfilter/iptables_text.ts";
import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";
import type { ProgramChange, SetPlan } from "../../agent/netfilter/program.ts";
import { hooks } from "../../agent/netfilter/static_chains.ts";
import type { Family } from "../../lib/ip.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { sentinelRule } from "./prober.ts";

/** Which iptables. */
export type Variant = "legacy" | "nft";

/** A chain as text: its lines are what iptables-restore takes. */
export interface ChainText {
  name: string;
  lines: readonly string[];
}

/** The kernel's own chains, by table. */
export const kernelChains: Record<Table, readonly string[]> = {
  raw: ["PREROUTING", "OUTPUT"],
  mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
  nat: ["PREROUTING", "OUTPUT", "POSTROUTING"],
  filter: ["INPUT", "FORWARD", "OUTPUT"],
  security: ["INPUT", "FORWARD", "OUTPUT"],
};
const tables = Object.keys(kernelChains) as Table[];

/**
 * Loads chains and sets into a namespace, by iptables-restore and ipset alone. For tests of what is rendered: it reads
 * nothing, keeps nothing and repairs nothing.
 */
export class Loader {
  constructor(private readonly host: Namespace, private readonly variant: Variant) {}

  /** Empties all tables and lets sentinels pass. @param forward what FORWARD does with what nobody decided on. */
  async reset(forward: "ACCEPT" | "DROP"): Promise<void> {
    for (const family of [4, 6] as const) {
      const text = tables.map((table) => {
        const chains = kernelChains[table];
        const policy = (c: string) => `:${c} ${table === "filter" && c === "FORWARD" ? forward : "ACCEPT"} [0:0]`;
        const sentinels = chains.map((c) => `-A ${c} ${sentinelRule}`);
        return [`*${table}`, ...chains.map(policy), ...sentinels, "COMMIT", ""].join("\n");
      });
      await this.#restore(family, text.join(""), []);
    }
    await this.host.runOk("ipset", ["destroy"]);
  }

  /** Adds or replaces chains, then adds `rules` to the kernel's chains, then removes chains; one transaction. */
  async load(
    family: Family,
    table: Table,
    chains: readonly ChainText[],
    rules: readonly string[] = [],
    remove: readonly string[] = [],
  ): Promise<void> {
    const text = [
      `*${table}`,
      ...[...chains.map((c) => c.name), ...remove].map((name) => `:${name} - [0:0]`),
      ...chains.flatMap((c) => c.lines),
      ...rules,
      ...remove.map((name) => `-X ${name}`),
      "COMMIT",
      "",
    ].join("\n");
    await this.#restore(family, text, ["--noflush"]);
  }

  /** Takes over a change of a FilterProgram: sets, tables, removed sets. */
  async apply(change: ProgramChange): Promise<void> {
    await this.sets([
      ...change.setsPut.flatMap(replaced),
      ...change.setsChanged.flatMap(({ name, add, remove }) => [
        ...add.map((m) => `add -exist ${name} ${m}`),
        ...remove.map((m) => `del -exist ${name} ${m}`),
      ]),
    ]);
    for (const { family, table, put, remove } of change.tables) {
      const chains = put.map((c) => ({ name: c.name, lines: chainLines(c, { family, randomFully: true }).lines }));
      await this.load(family, table, chains, [], remove);
    }
    await this.sets(change.setsRemoved.map(({ name }) => `destroy ${name}`));
  }

  /** Leads the kernel's chains into ours, behind the rule for sentinels. */
  async hook(settings: NetfilterSettings): Promise<void> {
    const { family } = settings;
    for (const table of tables) {
      const rules = hooks(table, settings).flatMap(({ chain, append, rules }) =>
        rules.map((r) => {
          const place = append ? `-A ${chain}` : `-I ${chain} 2`;
          return `${place} ${hashComment("hook")} ${ruleBody(r, { family, randomFully: true })}`;
        })
      );
      await this.load(family, table, [], rules);
    }
  }

  /** Lines for `ipset restore`. */
  async sets(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.host.runOk("ipset", ["restore"], { stdin: lines.join("\n") + "\n" });
  }

  /** Forgets every flow, so that the next packet of each is a first one. */
  async forgetFlows(): Promise<void> {
    await this.host.runOk("conntrack", ["-F"]);
  }

  async #restore(family: Family, text: string, options: string[]): Promise<void> {
    const program = `ip${family === 6 ? "6" : ""}tables-${this.variant}-restore`;
    try {
      await this.host.runOk(program, options, { stdin: text });
    } catch (error) {
      const line = Number(/line:? (\d+)/.exec(String(error))?.[1] ?? 0);
      throw new Error(`${program} refused: ${text.split("\n")[line - 1] ?? ""}`, { cause: error });
    }
  }
}

/** Lines that make a set, or put new members into one that is there. */
export function replaced({ name, family, type, members }: SetPlan): string[] {
  const make = (n: string) => `create -exist ${n} ${type} family ${family === 4 ? "inet" : "inet6"}`;
  const temporary = `${name.slice(0, 29)}~`;
  return [
    make(name),
    make(temporary),
    ...members.map((m) => `add ${temporary} ${m}`),
    `swap ${name} ${temporary}`,
    `destroy ${temporary}`,
  ];
}
