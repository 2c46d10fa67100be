import assert from "node:assert/strict";
import { hashOf, type Hook, type TableName, targetOf, type WantedChain } from "../../kernel/netfilter/chain.ts";
import { runOk } from "../../lib/process.ts";
import { chainOf, hook, openTable, toolsOf, variants } from "./_netfilter_lab.ts";
import { enterOwnNetns } from "./_own_netns.ts";

interface RenderCase {
  id: string;
  input: { kind: string; backend?: string; ipVersion?: number };
  expect: { chains: { name: string; rules: string[] }[] };
}

/** Table that Felix writes each sort of chains into, and a chain of the kernel that may lead to them. */
const places: Record<string, [TableName, string]> = {
  policy: ["filter", "FORWARD"],
  profile: ["filter", "FORWARD"],
  workload: ["filter", "FORWARD"],
  "policy-group": ["filter", "FORWARD"],
  "workload-dispatch": ["filter", "FORWARD"],
  "host-filter": ["filter", "FORWARD"],
  "host-dispatch": ["filter", "FORWARD"],
  "cidr-block": ["filter", "FORWARD"],
  "host-raw": ["raw", "PREROUTING"],
  "host-prednat": ["mangle", "PREROUTING"],
  "host-mangle-egress": ["mangle", "POSTROUTING"],
  "egress-dscp": ["mangle", "POSTROUTING"],
  "nat-outgoing": ["nat", "POSTROUTING"],
  "fip-dnat": ["nat", "PREROUTING"],
  "fip-snat": ["nat", "POSTROUTING"],
};

function felixCases(): RenderCase[] {
  const file = new URL("../cases/render.json", import.meta.url);
  const { cases } = JSON.parse(Deno.readTextFileSync(file)) as { cases: RenderCase[] };
  return cases.filter(({ input, expect }) =>
    places[input.kind] && (input.backend ?? "iptables") === "iptables" && (input.ipVersion ?? 4) === 4 &&
    expect.chains.length > 0
  );
}

/** The chains of a case as Felix wrote them, what leads there, and empty chains for what they lead to. */
function stateOf({ input, expect: { chains } }: RenderCase): { wanted: WantedChain[]; hooks: Hook[]; sets: string[] } {
  const wanted = chains.map(({ name, rules }): WantedChain => ({
    name,
    lines: rules,
    hashes: rules.map((rule) => hashOf(rule)!),
  }));
  const known = new Set(chains.map((c) => c.name));
  const lines = chains.flatMap((c) => c.rules);
  const missing = new Set(lines.map(targetOf).filter((t) => t?.startsWith("cali-") && !known.has(t)) as string[]);
  return {
    wanted: [...wanted, ...[...missing].map((name) => chainOf(name, []))],
    hooks: [
      hook(
        places[input.kind]![1],
        false,
        chains.map(({ name }) => ({ match: [], action: { is: "jump", chain: name } })),
      ),
    ],
    sets: [
      ...new Set(lines.flatMap((l) => [...l.matchAll(/--match-set (\S+) (\S+)/g)].map((m) => m[1]! + " " + m[2]!))),
    ],
  };
}

/** As Felix gives it to iptables-restore at its first start. */
function felixText(table: TableName, wanted: WantedChain[], hooks: Hook[]): string {
  return [
    `*${table}`,
    ...wanted.map((c) => `:${c.name} - -`),
    ...wanted.flatMap((c) => c.lines),
    ...hooks.flatMap((h) => h.lines.toReversed().map((l) => l.replace("-A", "-I"))),
    "COMMIT",
    "",
  ].join("\n");
}

for (const variant of variants) {
  Deno.test(`${variant}: what Felix has written is taken over without a write`, async (t) => {
    await using _host = await enterOwnNetns("h9");
    let cases = 0, chains = 0;
    for (const one of felixCases()) {
      const [table] = places[one.input.kind]!;
      const { wanted, hooks, sets } = stateOf(one);
      for (const [name, way] of sets.map((s) => s.split(" ") as [string, string])) {
        await runOk("ipset", ["create", "-exist", name, way.includes(",") ? "hash:ip,port" : "hash:net"]);
      }
      await runOk(toolsOf(variant).restore, ["--noflush"], { stdin: felixText(table, wanted, hooks) });
      using open = openTable(variant, table);
      open.table.wantAll(wanted);
      open.table.wantHooks(hooks);
      const report = await open.table.flush();
      assert.deepEqual([report.put, report.removed, report.retryInMs], [0, 0, undefined], one.id);
      assert.equal(open.table.counts.writes, 0, one.id);
      // Then everything goes, in one write, and the next case begins with an empty table.
      open.table.wantAll([]);
      open.table.wantHooks([]);
      await open.table.flush();
      assert.deepEqual([open.table.counts.writes, open.table.size.chains], [1, 0], one.id);
      cases++;
      chains += wanted.length;
    }
    console.log(`      ${cases} cases, ${chains} chains`);
    assert.ok(cases > 30);
    await t.step("nothing of ours is left", async () => {
      const all = await runOk(toolsOf(variant).save, []);
      assert.equal(all.includes("cali"), false);
    });
  });
}
