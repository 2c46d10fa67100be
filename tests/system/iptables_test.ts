import assert from "node:assert/strict";
import fc from "fast-check";
import type { Hook, Variant, WantedChain } from "../../kernel/netfilter/chain.ts";
import { FakeClock } from "../../lib/clock.ts";
import { run, runOk } from "../../lib/process.ts";
import { wait } from "../lab/wait.ts";
import { chainOf, hook, openTable, saved, toolsOf, variants } from "./_netfilter_lab.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const jump = (chain: string) => ({ match: [], action: { is: "jump" as const, chain } });
const forward = hook("FORWARD", false, [jump("cali-FORWARD")]);
const forwardEnd = hook("FORWARD", true, [{ match: [], action: { is: "mark", value: 0x10000, mask: 0x10000 } }]);

/** Names that are ours, by the chain that they are in, from iptables-save. */
function ours(lines: string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of lines) {
    const chain = /^:(cali-\S+)/.exec(line)?.[1];
    if (chain) found.set(chain, []);
  }
  for (const line of lines) {
    const [, chain] = /^-A (\S+)/.exec(line) ?? [];
    const hash = /cali:(\S{16})/.exec(line)?.[1];
    if (chain && found.has(chain)) found.get(chain)!.push(hash ?? line);
  }
  return found;
}

/** The chains that should be there: those in use. */
function reachable(chains: Map<string, WantedChain>, hooks: Hook[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const visit = (lines: readonly string[]) => {
    for (const line of lines) {
      const target = /(?:--jump|--goto) (cali-\S+)/.exec(line)?.[1];
      if (!target || found.has(target)) continue;
      found.set(target, [...(chains.get(target)?.hashes ?? ["refused_stand_in"])]);
      visit(chains.get(target)?.lines ?? []);
    }
  };
  hooks.forEach((h) => visit(h.lines));
  return found;
}

const leaf = fc.constantFrom("cali-d", "cali-e", "cali-f");
const middle = fc.constantFrom("cali-b", "cali-c");
const plain = fc.tuple(fc.nat(20), fc.constantFrom("DROP", "ACCEPT", "RETURN")).map(([n, action]) =>
  `--source 10.0.0.${n} --jump ${action}`
);
const rules = (to: fc.Arbitrary<string>) =>
  fc.array(fc.oneof(plain, to.map((name) => `--jump ${name}`)), { maxLength: 6 });
const state = fc.record({
  top: rules(middle),
  "cali-b": rules(leaf),
  "cali-c": fc.option(rules(leaf)),
  "cali-d": rules(fc.constantFrom("cali-x", "cali-y")),
  "cali-e": fc.option(fc.array(plain, { maxLength: 4 })),
  "cali-f": fc.array(plain, { maxLength: 4 }),
  "cali-x": fc.array(plain, { maxLength: 4 }),
  hooks: fc.subarray([forward, forwardEnd]),
  /** What somebody else does before the flush. */
  foreign: fc.option(fc.constantFrom(
    "-I FORWARD -s 1.2.3.4 -j DROP",
    "-A FORWARD -s 1.2.3.5 -j ACCEPT",
    "-F cali-b",
    "-D cali-FORWARD 1",
    "-I cali-FORWARD -j ACCEPT",
    "-F FORWARD",
    "-N cali-stranger",
    "-N foreign",
    "-A cali-b -s 9.9.9.9 -j cali-d",
  )),
});

for (const variant of variants) {
  Deno.test(`${variant}: any wishes and foreign hands converge, then nothing is read or written`, async () => {
    await using _host = await enterOwnNetns("h9");
    await fc.assert(
      fc.asyncProperty(fc.array(state, { minLength: 1, maxLength: 4 }), (states) => converge(variant, states)),
      { numRuns: 40 },
    );
  });
}

async function converge(variant: Variant, states: (typeof state extends fc.Arbitrary<infer T> ? T : never)[]) {
  using open = openTable(variant, "filter");
  const { table } = open;
  for (const { top, hooks, foreign, ...rest } of states) {
    const chains = new Map<string, WantedChain>();
    for (const [name, bodies] of Object.entries({ "cali-FORWARD": top, ...rest })) {
      if (bodies) chains.set(name, chainOf(name, bodies));
    }
    table.wantAll(chains.values());
    table.wantHooks(hooks);
    if (foreign) await run(`iptables-${variant}`, foreign.split(" "));
    const before = (await saved(variant, "filter")).filter((l) => l.startsWith("-A FORWARD") && !l.includes("cali:"));
    await table.flush();
    const now = await saved(variant, "filter");
    assert.deepEqual(new Map([...ours(now)].sort()), new Map([...reachable(chains, hooks)].sort()));
    const inForward = now.filter((l) => l.startsWith("-A FORWARD"));
    const want = hooks.flatMap((h) => h.hashes);
    assert.deepEqual(inForward.flatMap((l) => /cali:(\S{16})/.exec(l)?.[1] ?? []), want);
    assert.deepEqual(inForward.filter((l) => !l.includes("cali:")), before, "foreign rules stay");
    if (hooks.includes(forward)) assert.match(inForward[0]!, /cali-FORWARD/);
    if (hooks.includes(forwardEnd)) assert.match(inForward.at(-1)!, /MARK/);
    const counts = { ...table.counts };
    await table.flush();
    assert.deepEqual(table.counts, counts, "at rest");
    assert.equal(table.retryInMs, undefined);
  }
}

/** A host with one policy chain, its user, and hooks; `bodies` are the policy's rules. */
function policied(table: ReturnType<typeof openTable>["table"], bodies: string[]): void {
  table.wantAll([
    chainOf("cali-FORWARD", ["--jump cali-tw-a", "--jump cali-tw-b"]),
    chainOf("cali-tw-a", ["--jump cali-pi-a", "--jump DROP"]),
    chainOf("cali-tw-b", ["--jump cali-pi-b", "--jump DROP"]),
    chainOf("cali-pi-a", bodies),
    chainOf("cali-pi-b", ["--source 10.0.0.9 --jump ACCEPT"]),
  ]);
  table.wantHooks([forward]);
}

for (const variant of variants) {
  const refusals = {
    "a line that iptables does not understand": "--bogus 1 --jump ACCEPT",
    "a set that is not there": "-m set --match-set cali40nosuch src --jump ACCEPT",
    "a target that the kernel refuses in this table": "--jump MASQUERADE",
  };
  for (const [what, body] of Object.entries(refusals)) {
    Deno.test(`${variant}: ${what} holds up its chain alone: new, it drops; else the older version stays`, async () => {
      await using _host = await enterOwnNetns("h9");
      const clock = new FakeClock();
      using open = openTable(variant, "filter", { clock });
      const { table } = open;
      policied(table, [body]);
      const first = await table.flush();
      assert.deepEqual([...first.failed.keys()], ["cali-pi-a"]);
      assert.notEqual(first.failed.get("cali-pi-a")!.why, "");
      assert.deepEqual([table.holds("cali-pi-a"), table.holds("cali-tw-a"), table.holds("cali-pi-b")], [
        false,
        true,
        true,
      ]);
      const rulesOf = async () => (await saved(variant, "filter")).filter((l) => l.startsWith("-A cali-pi-a"));
      assert.deepEqual((await rulesOf()).map((l) => l.split(" ").at(-1)), ["DROP"]);

      policied(table, ["--source 10.0.0.1 --jump ACCEPT"]);
      assert.equal((await table.flush()).retryInMs, undefined);
      assert.match((await rulesOf()).join(), /10\.0\.0\.1\/32 .*ACCEPT/);

      policied(table, ["--source 10.0.0.1 --jump ACCEPT", body]);
      assert.deepEqual([...(await table.flush()).failed.keys()], ["cali-pi-a"]);
      assert.deepEqual((await rulesOf()).length, 1, "the older version stays");
      const writes = table.counts.writes;
      await table.flush();
      assert.equal(table.counts.writes, writes, "not tried before its time");
      await clock.advance(table.retryInMs!);
      await table.flush();
      assert.ok(table.counts.writes > writes, "tried again");
      assert.deepEqual([...table.failed.keys()], ["cali-pi-a"]);
    });
  }

  Deno.test(`${variant}: chains that only a refused chain's older version leads to stay until it is replaced`, async () => {
    await using _host = await enterOwnNetns("h9");
    using open = openTable(variant, "filter", { clock: new FakeClock() });
    const { table } = open;
    policied(table, ["--jump cali-gi-old"]);
    table.want("cali-gi-old", chainOf("cali-gi-old", ["--jump cali-gi-older"]));
    table.want("cali-gi-older", chainOf("cali-gi-older", ["--jump DROP"]));
    await table.flush();
    policied(table, ["--bogus 1"]);
    await table.flush();
    const chains = async () => [...ours(await saved(variant, "filter")).keys()].filter((n) => n.startsWith("cali-gi"));
    assert.deepEqual(await chains(), ["cali-gi-old", "cali-gi-older"]);
    policied(table, ["--jump DROP"]);
    assert.equal((await table.flush()).retryInMs, undefined);
    assert.deepEqual(await chains(), []);
  });

  Deno.test(`${variant}: legacy keeps the counters of rules that did not change, of other chains both do`, async () => {
    await using host = await enterOwnNetns("h9");
    using open = openTable(variant, "filter");
    const { table } = open;
    const want = (last: string) => {
      table.wantAll([
        chainOf("cali-OUTPUT", ["--jump cali-one", "--jump cali-two"]),
        chainOf("cali-one", ["--source 127.0.0.1", last]),
        chainOf("cali-two", ["--source 127.0.0.1"]),
      ]);
      table.wantHooks([hook("OUTPUT", false, [jump("cali-OUTPUT")])]);
    };
    want("--source 10.0.0.1 --jump DROP");
    await table.flush();
    await host.runOk("ping", ["-c1", "-W1", "127.0.0.1"]);
    const counted = async (chain: string) => {
      const text = await runOk(toolsOf(variant).save, ["-c", "-t", "filter"]);
      return Number(new RegExp(`^\\[(\\d+):\\d+\\] -A ${chain} -s 127`, "m").exec(text)![1]);
    };
    const before = [await counted("cali-one"), await counted("cali-two")];
    assert.ok(before[0]! > 0 && before[1]! > 0);
    want("--source 10.0.0.2 --jump DROP");
    await table.flush();
    assert.deepEqual([await counted("cali-one"), await counted("cali-two")], [
      variant === "legacy" ? before[0] : 0,
      before[1],
    ]);
  });

  Deno.test(`${variant}: rules by hand, removed and put above ours, are noticed and repaired within a second`, async () => {
    await using _host = await enterOwnNetns("h9");
    using open = openTable(variant, "filter");
    const { table, watch } = open;
    policied(table, ["--source 10.0.0.1 --jump ACCEPT"]);
    table.wantHooks([forward, forwardEnd]);
    await table.flush();
    const good = await saved(variant, "filter");
    const stop = new AbortController();
    const loop = (async () => {
      for await (const _tables of watch.changes(stop.signal)) await table.flush();
    })();
    const hands: { by: string[]; more?: string }[] = [
      { by: ["-D cali-pi-a 1"] },
      { by: ["-I FORWARD -s 1.1.1.1 -j ACCEPT"], more: "1.1.1.1" },
      { by: ["-A FORWARD -s 1.1.1.2 -j ACCEPT"], more: "1.1.1.2" },
      { by: ["-F", "-X"] },
    ];
    for (const { by, more } of hands) {
      // The repair may come between -F and -X, which then finds the chains in use.
      for (const words of by) await runOk("sh", ["-c", `iptables-${variant} ${words} || [ "${words}" = -X ]`]);
      const start = performance.now();
      await wait(`repair after ${by}`, async () => {
        const now = await saved(variant, "filter");
        const kept = now.filter((l) => !l.includes("1.1.1."));
        const inForward = now.filter((l) => l.startsWith("-A FORWARD"));
        const placed = inForward[0]?.includes("cali-FORWARD") && inForward.at(-1)!.includes("MARK");
        return placed && (!more || now.some((l) => l.includes(more))) && kept.join("\n") === good.join("\n");
      }, { deadlineMs: 1000 });
      console.log(`      ${variant} ${by.join("; ")}: ${Math.round(performance.now() - start)} ms`);
    }
    const counts = { ...table.counts };
    stop.abort();
    await loop;
    await table.flush();
    assert.deepEqual(table.counts, counts);
  });
}
