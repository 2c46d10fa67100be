import assert from "node:assert/strict";
import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import { anyResource, pod, resource } from "../../tests/random_policy.ts";
import { Graph, type GraphChange } from "../calc/graph.ts";
import { chainLines } from "./iptables_text.ts";
import { defaultSettings } from "./model.ts";
import { type FilterFacts, FilterProgram, type ProgramChange } from "./program.ts";

const facts: FilterFacts = {
  settings: [defaultSettings(4), defaultSettings(6)],
  masqueradePools: [parseCidr("10.0.0.0/16")],
  pools: [parseCidr("10.0.0.0/16"), parseCidr("fd00::/64")],
  ownAddresses: [parseIp("192.0.2.1")],
  allHosts: [],
  vxlanHosts: [],
  serviceCidrs: ["10.96.0.0/12"],
  floatingIps: new Map([["203.0.113.9", "10.0.0.1"]]),
  interfaces: [{ name: "eth0", addresses: [parseIp("172.16.0.1")] }],
};

/** The kernel as a program's changes leave it. */
class Kernel {
  readonly chains = new Map<string, string[]>();
  readonly sets = new Map<string, Set<string>>();

  apply(change: ProgramChange): void {
    for (const { name, members } of change.setsPut) this.sets.set(name, new Set(members));
    for (const { name, add, remove } of change.setsChanged) {
      for (const member of add) this.sets.get(name)!.add(member);
      for (const member of remove) this.sets.get(name)!.delete(member);
    }
    for (const { family, table, put, remove } of change.tables) {
      for (const chain of put) {
        this.chains.set(`${family} ${table} ${chain.name}`, chainLines(chain, { family, randomFully: true }).lines);
      }
      for (const name of remove) this.chains.delete(`${family} ${table} ${name}`);
    }
    for (const { name } of change.setsRemoved) this.sets.delete(name);
  }

  shown(): unknown {
    const sorted = <V>(map: Map<string, V>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    return {
      chains: sorted(this.chains),
      sets: sorted(this.sets).map(([name, members]) => [name, [...members].sort()]),
    };
  }

  /** Chains that rules go to and sets that they look into, which are not there. */
  missing(): string[] {
    const missing: string[] = [];
    for (const [key, lines] of this.chains) {
      const [family, table] = key.split(" ");
      for (const line of lines) {
        const target = /--(?:jump|goto) (cali-\S+)/.exec(line)?.[1];
        if (target && !this.chains.has(`${family} ${table} ${target}`)) missing.push(`${key} -> ${target}`);
        for (const [, set] of line.matchAll(/--match-set (\S+)/g)) {
          if (!this.sets.has(set!)) missing.push(`${key} -> ${set}`);
        }
      }
    }
    return missing;
  }
}

function fresh(stored: Iterable<Resource>): Kernel {
  const graph = new Graph({ node: "n1" });
  graph.update([...stored].map((set) => ({ set })));
  const program = new FilterProgram();
  program.facts(facts);
  program.policy(graph.flush());
  const kernel = new Kernel();
  kernel.apply(program.flush());
  return kernel;
}

Deno.test("after any sequence of changes chains and sets are those of a fresh start, and nothing refers to what is not there", () => {
  const step = fc.record({ resource: anyResource, remove: fc.boolean(), flush: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 40 }), (steps) => {
      const graph = new Graph({ node: "n1" });
      const program = new FilterProgram();
      program.facts(facts);
      const kernel = new Kernel();
      const stored = new Map<string, Resource>();
      for (const { resource, remove, flush } of steps) {
        const key = `${resource.kind}/${resource.metadata.namespace}/${resource.metadata.name}`;
        const change: GraphChange = remove && resource.kind !== "Tier" ? { delete: resource } : { set: resource };
        if ("delete" in change) stored.delete(key);
        else stored.set(key, resource);
        graph.update([change]);
        if (!flush) continue;
        program.policy(graph.flush());
        kernel.apply(program.flush());
        assert.deepEqual(kernel.missing(), []);
      }
      program.policy(graph.flush());
      kernel.apply(program.flush());
      assert.deepEqual(kernel.missing(), []);
      assert.deepEqual(kernel.shown(), fresh(stored.values()).shown());
    }),
    { numRuns: 150 },
  );
});

Deno.test("of two endpoints that claim an interface the smaller id has its chains, until it goes", () => {
  const first = pod("a", "n1", {}, ["10.0.0.1/32"], { interfaceName: "calix", profiles: ["one"] });
  const second = pod("b", "n1", {}, ["10.0.0.2/32"], { interfaceName: "calix", profiles: ["two"] });
  const graph = new Graph({ node: "n1" });
  const program = new FilterProgram();
  program.facts(facts);
  const kernel = new Kernel();
  const step = (...changes: GraphChange[]) => {
    graph.update(changes);
    program.policy(graph.flush());
    kernel.apply(program.flush());
    return kernel.chains.get("4 filter cali-tw-calix")?.join("\n") ?? "";
  };
  assert.match(step({ set: second }), /cali-pri-two/);
  assert.match(step({ set: first }), /cali-pri-one/);
  assert.match(step({ delete: first }), /cali-pri-two/);
  assert.equal(step({ delete: second }), "");
});

Deno.test("one changed policy renders its own chains and nothing else", () => {
  const graph = new Graph({ node: "n1" });
  const program = new FilterProgram();
  program.facts(facts);
  const policy = (n: number, port: number): GraphChange => ({
    set: resource("GlobalNetworkPolicy", `p${n}`, undefined, {
      selector: "all()",
      types: ["Ingress"],
      ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [port] } }],
    }),
  });
  const pods = Array.from({ length: 50 }, (_, i) => ({ set: pod(`p${i}`, "n1", {}, [`10.0.0.${i}/32`]) }));
  graph.update([...pods, ...Array.from({ length: 50 }, (_, i) => policy(i, 80))]);
  program.policy(graph.flush());
  program.flush();
  graph.update([policy(7, 81)]);
  program.policy(graph.flush());
  const names = program.flush().tables.flatMap((t) => t.put.map((c) => `${t.family} ${c.name}`));
  assert.deepEqual(names.sort(), ["4 cali-pi-gnp/p7", "4 cali-po-gnp/p7", "6 cali-pi-gnp/p7", "6 cali-po-gnp/p7"]);
});

Deno.test("sets of tunnels are there while a setting makes rules look into them, however often it changes between flushes", () => {
  const program = new FilterProgram(), kernel = new Kernel();
  const set = (...tunnels: ("ipip" | "vxlan")[]) => {
    const on = Object.fromEntries(tunnels.map((t) => [t, true]));
    program.facts({ ...facts, settings: facts.settings.map((s) => ({ ...s, ...on })) });
  };
  const flushed = () => {
    kernel.apply(program.flush());
    assert.deepEqual(kernel.missing(), []);
    return [...kernel.sets.keys()].filter((name) => /all-(hosts|vxlan)-net/.test(name)).sort();
  };
  set();
  assert.deepEqual(flushed(), []);
  set("ipip", "vxlan");
  assert.deepEqual(flushed(), ["cali40all-hosts-net", "cali40all-vxlan-net", "cali60all-vxlan-net"]);
  for (const tunnel of ["vxlan", "ipip", "vxlan"] as const) set(tunnel);
  assert.deepEqual(flushed(), ["cali40all-vxlan-net", "cali60all-vxlan-net"]);
  set("ipip");
  set();
  assert.deepEqual(flushed(), []);
});
