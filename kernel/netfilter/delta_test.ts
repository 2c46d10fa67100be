import assert from "node:assert/strict";
import fc from "fast-check";
import type { Content, HookedRule, Variant } from "./chain.ts";
import { calleesFirst, type ChainStep, hooksAgree, restoreText, wantedHooks } from "./delta.ts";

/** A table as iptables keeps it: rules by chain; a rule is its text without the command. */
type Model = Map<string, string[]>;

/** What iptables-restore --noflush does with a text; throws where it would refuse. */
function restore(before: Model, text: string): Model {
  let table = structuredClone(before);
  const committed = () => {
    for (const rules of table.values()) {
      for (const rule of rules) {
        const to = /-j (cali-\S+)/.exec(rule)?.[1];
        if (to && !table.has(to)) throw new Error(`${rule} leads nowhere`);
      }
    }
  };
  for (const line of text.trim().split("\n")) {
    const [command, chain = "", rest = ""] = /^(\S+)(?: (\S+))?(?: (.*))?$/.exec(line)!.slice(1);
    const rules = table.get(chain) ?? [];
    if (command === "*filter") continue;
    if (command === "COMMIT") committed();
    else if (command!.startsWith(":")) table.set(command!.slice(1), []);
    else if (!table.has(chain)) throw new Error(`no chain ${chain}`);
    else if (command === "-A") rules.push(rest);
    else if (command === "-I") rules.unshift(rest.replace(/^1 /, ""));
    else if (command === "--delete-chain") {
      if (rules.length > 0) throw new Error(`${chain} is not empty`);
      if ([...table.values()].flat().some((r) => r.endsWith(`-j ${chain}`))) throw new Error(`${chain} is in use`);
      table.delete(chain);
    } else {
      const byNumber = /^(\d+)(?: (.*))?$/.exec(rest);
      const at = byNumber ? Number(byNumber[1]) - 1 : rules.indexOf(rest);
      if (at < 0 || at >= rules.length) throw new Error(`no rule for ${line}`);
      if (command === "-R") rules[at] = byNumber![2]!;
      else rules.splice(at, 1);
    }
  }
  table = new Map([...table]);
  return table;
}

const hashes = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 6 });
const content = (name: string, list: string[]): Content => ({
  name,
  hashes: list,
  lines: list.map((hash) => `-A ${name} ${hash}`),
  refs: [],
});
const rulesOf = (c: Content) => c.lines.map((l) => l.slice(`-A ${c.name} `.length));
const chain = (name: string) =>
  fc.tuple(fc.option(hashes), fc.option(hashes)).map(([from, to]) => ({ name, from, to }));
const hooked: fc.Arbitrary<HookedRule[]> = fc.array(
  fc.option(fc.constantFrom("x", "y", "z").map((hash) => ({ hash, line: `-A FORWARD ${hash}` })), { nil: undefined }),
  { maxLength: 6 },
);
const hook = (append: boolean, list: string[]) => ({
  chain: "FORWARD",
  append,
  hashes: list,
  lines: list.map((hash) => `-A FORWARD ${hash}`),
});

for (const variant of ["legacy", "nft"] as Variant[]) {
  Deno.test(`restoreText() (${variant}) leads from any table to any other, foreign rules in their order`, () => {
    fc.assert(
      fc.property(
        fc.tuple(chain("cali-1"), chain("cali-2"), chain("cali-3")),
        hooked,
        fc.uniqueArray(fc.constantFrom("x", "y", "w"), { maxLength: 3 }),
        fc.uniqueArray(fc.constantFrom("u", "v"), { maxLength: 2 }),
        (chains, have, inserted, appended) => {
          const before: Model = new Map(
            chains.flatMap((c) => c.from ? [[c.name, rulesOf(content(c.name, c.from))]] : []),
          );
          before.set("FORWARD", have.map((r, i) => r?.hash ?? `foreign ${i}`));
          const steps = chains.map(({ name, from, to }): ChainStep => ({
            name,
            from: from ? { hashes: from, refs: [] } : undefined,
            to: to ? content(name, to) : undefined,
          })).filter((s) => s.from || s.to);
          const hooks = [hook(false, inserted), hook(true, appended)];
          const want = wantedHooks(have, hooks);
          const moved = hooksAgree(have, want) ? [] : [{ chain: "FORWARD", have, want }];
          const { text, entries, owners } = restoreText("filter", variant, steps, moved);
          const after = restore(before, text);
          const expected: Model = new Map(
            chains.flatMap((c) => c.to ? [[c.name, rulesOf(content(c.name, c.to))]] : []),
          );
          const foreign = before.get("FORWARD")!.filter((r) => r.startsWith("foreign"));
          expected.set("FORWARD", [...inserted, ...foreign, ...appended]);
          assert.deepEqual(new Map([...after].sort()), new Map([...expected].sort()));
          const size = (m: Model) => [...m].reduce((n, [name, r]) => n + r.length + (name === "FORWARD" ? 0 : 2), 0);
          assert.equal(size(after) - size(before), entries, "entries as the kernel counts them");
          assert.equal(owners.length, text.trim().split("\n").length);
        },
      ),
      { numRuns: 500 },
    );
  });

  Deno.test(`restoreText() (${variant}) makes chains before who uses them and deletes them after`, () => {
    const users = (to: string) => ({ ...content("cali-user", ["a"]), lines: [`-A cali-user -j ${to}`], refs: [to] });
    const steps: ChainStep[] = [
      { name: "cali-old", from: { hashes: ["a"], refs: [] }, to: undefined },
      { name: "cali-user", from: { hashes: ["b"], refs: ["cali-old"] }, to: users("cali-new") },
      { name: "cali-new", from: undefined, to: content("cali-new", ["a"]) },
    ];
    const before: Model = new Map([["cali-old", ["a"]], ["cali-user", ["-j cali-old"]]]);
    const after = restore(before, restoreText("filter", variant, steps, []).text);
    assert.deepEqual([...after.keys()].sort(), ["cali-new", "cali-user"]);
    assert.deepEqual(calleesFirst(steps).map((s) => s.name), ["cali-old", "cali-new", "cali-user"]);
  });
}

Deno.test("restoreText() leaves alone, in legacy, the rules before the first that differs", () => {
  const step = { name: "c", from: { hashes: ["a", "b", "c"], refs: [] }, to: content("c", ["a", "x", "c", "d"]) };
  assert.deepEqual(restoreText("filter", "legacy", [step], []).text.split("\n"), [
    "*filter",
    "-R c 2 x",
    "-A c d",
    "COMMIT",
    "",
  ]);
  const shorter = { ...step, to: content("c", ["a"]) };
  assert.match(restoreText("filter", "legacy", [shorter], []).text, /^\*filter\n-D c 2\n-D c 2\nCOMMIT/);
});
