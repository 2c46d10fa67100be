import { Graph } from "../../agent/calc/graph.ts";
import type { ProgramChange } from "../../agent/netfilter/program.ts";
import { FilterProgram } from "../../agent/netfilter/program.ts";
import { chainLines } from "../../agent/netfilter/iptables_text.ts";
import { defaultSettings, type NetfilterSettings } from "../../agent/netfilter/model.ts";
import { ownPrefixes } from "../../agent/netfilter/names.ts";
import { hooks } from "../../agent/netfilter/static_chains.ts";
import { type Hook, type TableName, type Variant } from "../../kernel/netfilter/chain.ts";
import { IptablesTable } from "../../kernel/netfilter/iptables.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { systemClock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { endpoint, here, policy, type Stored, surroundings } from "./policy_objects.ts";
import { makeNamespace } from "../lab/namespaces.ts";
import { percentile } from "./table.ts";

/** What 1x is; endpoints are local. */
const unit = { endpoints: 50, policies: 100, namespaces: 5 };
const changesEach = 30;

/** Milliseconds of one change, medians. */
export interface StepCosts {
  calculation: number;
  /** Chains as data. */
  rendering: number;
  /** Chains as text with hashes, and what of it the table still lacks: up to the text for iptables-restore. */
  text: number;
}

/** The agent's own work for one change beside `factor` times as many endpoints and policies: nothing reaches a kernel. */
export async function calculationCosts(factor: number, variant: Variant): Promise<Map<string, StepCosts>> {
  const n = { endpoints: unit.endpoints * factor, policies: unit.policies * factor };
  // More namespaces, not more in each: what is added has nothing to do with what changes.
  const spread = unit.namespaces * factor;
  const world = new InProcess(variant);
  await world.change([
    ...surroundings(spread),
    ...Array.from({ length: n.policies }, (_, i) => policy(i, 0, spread)),
    ...Array.from({ length: n.endpoints }, (_, i) => endpoint(i, true, spread)),
  ]);
  // Remote endpoints of the namespace and application that policy 0 lets in.
  const remote = (k: number) => endpoint(10 * spread * (k + 1) + 3 * spread, false, spread);
  return new Map([
    ["one rule changed", await world.median((k) => [policy(k % 10, 1 + k, spread)])],
    ["one endpoint added", await world.median((k) => [endpoint(n.endpoints + k, true, spread)])],
    ["one set member added", await world.median((k) => [remote(k)])],
  ]);
}

/** The calculation, the rendering and the tables of both families as the agent has them, with programs that do nothing. */
class InProcess {
  readonly #graph = new Graph({ node: here });
  readonly #program = new FilterProgram();
  readonly #tables = new Map<string, IptablesTable>();

  constructor(variant: Variant) {
    const settings = ([4, 6] as const).map((v) => defaultSettings(v));
    this.#program.facts(factsOf(settings));
    for (const s of settings) {
      for (const name of ["raw", "mangle", "nat", "filter"] as const) {
        const table = tableThatWritesNowhere(s.family, name, variant);
        table.wantHooks(
          hooks(name, s, false).map((h): Hook => ({
            ...{ chain: h.chain, append: h.append },
            ...chainLines({ name: h.chain, rules: h.rules }, { family: s.family, randomFully: true }),
          })),
        );
        this.#tables.set(`${s.family} ${name}`, table);
      }
    }
  }

  async change(objects: Stored[]): Promise<StepCosts> {
    const start = performance.now();
    this.#graph.update(objects.map(({ resource }) => ({ set: resource })));
    const delta = this.#graph.flush();
    const calculated = performance.now();
    this.#program.policy(delta);
    const change = this.#program.flush();
    const rendered = performance.now();
    this.#want(change);
    const wanted = performance.now();
    await Promise.all([...this.#tables.values()].map((t) => t.flush()));
    return { calculation: calculated - start, rendering: rendered - calculated, text: wanted - rendered };
  }

  #want({ tables }: ProgramChange): void {
    for (const { family, table, put, remove } of tables) {
      const kernel = this.#tables.get(`${family} ${table}`)!;
      for (const chain of put) {
        kernel.want(chain.name, { name: chain.name, ...chainLines(chain, { family, randomFully: true }) });
      }
      for (const name of remove) kernel.want(name, undefined);
    }
  }

  /** Medians over changes that come one by one. */
  async median(objects: (k: number) => Stored[]): Promise<StepCosts> {
    const all: StepCosts[] = [];
    for (let k = 0; k < changesEach; k++) all.push(await this.change(objects(k)));
    const of = (step: keyof StepCosts) => percentile(all.map((c) => c[step]).sort((a, b) => a - b), 0.5);
    return { calculation: of("calculation"), rendering: of("rendering"), text: of("text") };
  }
}

function tableThatWritesNowhere(family: Family, table: TableName, variant: Variant): IptablesTable {
  const watch: TableWatch = {
    foreign: () => 0,
    begin() {},
    end() {},
    async *changes() {},
    [Symbol.dispose]() {},
  };
  const tools = { variant, save: "true", restore: "true" };
  return new IptablesTable({ family, table, tools, ownPrefixes, watch, clock: systemClock, random: () => 0 });
}

const factsOf = (settings: NetfilterSettings[]) => ({
  settings,
  ...{ masqueradePools: [], pools: [], ownAddresses: [], allHosts: [], vxlanHosts: [], serviceCidrs: [] },
  ...{ floatingIps: new Map(), dscp: new Map(), interfaces: [] },
});

/** Median of one rule changed by a bare iptables-restore in a table of `factor` times as many rules, in milliseconds. */
export async function kernelCosts(variant: Variant, factor: number): Promise<number> {
  await using space = await makeNamespace("bp-scale");
  const chains = unit.policies * factor, restore = `iptables-${variant}-restore`;
  const lines = Array.from(
    { length: chains },
    (_, i) => [`:c${i} - -`, `-A c${i} -p tcp -j RETURN`, `-A c${i} -j DROP`],
  );
  // As many rules as an agent has: ten for each endpoint's interface and direction.
  const endpoints = Array.from({ length: unit.endpoints * factor }, (_, i) => [
    `:e${i} - -`,
    ...Array.from({ length: 20 }, (_, k) => `-A e${i} -m mark --mark ${k} -j RETURN`),
  ]);
  const all = ["*filter", ...lines.flat(), ...endpoints.flat(), "COMMIT", ""].join("\n");
  await space.runOk(restore, ["--noflush"], { stdin: all, timeoutMs: 120_000 });
  const times: number[] = [];
  for (let k = 0; k < changesEach; k++) {
    const rule = `c1 -p tcp -m multiport --dports ${k + 1} -j RETURN`;
    const text = variant === "nft" ? `:c1 - -\n-A ${rule}` : `-R c1 1 ${rule.slice(3)}`;
    const began = performance.now();
    await space.runOk(restore, ["--noflush", "--wait", "10"], { stdin: `*filter\n${text}\nCOMMIT\n` });
    times.push(performance.now() - began);
  }
  return percentile(times.sort((a, b) => a - b), 0.5);
}
