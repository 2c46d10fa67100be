import { deepEqual, equal, ok } from "node:assert/strict";
import { dropReasons, withDropLogs } from "./drop_logs.ts";
import { workloadChains } from "./endpoint_chains.ts";
import { chainLines } from "./iptables_text.ts";
import { type Chain, defaultSettings, rule } from "./model.ts";
import { policyChains } from "./policy_chains.ts";
import { staticChains } from "./static_chains.ts";

const settings = defaultSettings(4);
const side = {
  ...{ nets: [], notNets: [], ports: [], namedPortSets: [], notPorts: [], notNamedPortSets: [] },
  ...{ sets: [], notSets: [], serviceSets: [] },
};
const named = (name: string) => ({
  ...{
    id: `NetworkPolicy:shop/${name}`,
    kind: "NetworkPolicy",
    namespace: "shop",
    name,
    tier: "default",
    staged: false,
  },
  ...{ selector: "all()", doNotTrack: false, preDnat: false, applyOnForward: false, performanceHints: [] },
});
const words = { source: {}, destination: {} };
const policy = (name: string) => ({
  ...named(name),
  ingress: (["allow", "deny"] as const).map((action) => ({ action, source: side, destination: side, words })),
  egress: [],
});
const text = (chain: Chain) => chainLines(chain, { family: 4, randomFully: true }).lines;

Deno.test("before each line that drops comes one that tells, for the same packets; nothing else changes", () => {
  const chains = [...policyChains(policy("db"), settings), ...staticChains("raw", settings)];
  for (const chain of chains) {
    const logged = withDropLogs(chain);
    deepEqual(logged.rules.filter((r) => r.action?.is !== "nflog"), chain.rules, chain.name);
    for (const [i, { action, match }] of logged.rules.entries()) {
      if (action?.is === "drop") {
        equal(logged.rules[i - 1]!.action?.is, "nflog");
        deepEqual(logged.rules[i - 1]!.match.slice(0, -1), match);
      }
    }
  }
  ok(
    text(withDropLogs(chains[0]!)).some((line) => line.includes("--nflog-group 29745 --nflog-prefix DPI1|np/shop/db")),
  );
});

Deno.test("a chain that drops nothing stays the same object", () => {
  const chain = { name: "cali-x", rules: [rule([], { is: "accept" })] };
  equal(withDropLogs(chain), chain);
});

Deno.test("every prefix leads back to its decision, also one that is too long for the kernel", () => {
  const long = "a-policy-whose-name-is-longer-than-any-prefix-that-the-kernel-has-room-for";
  const chains = [...policyChains(policy("db"), settings), ...policyChains(policy(long), settings)];
  const tiers = [{ name: "default", defaultAction: "Deny" as const, ingress: [], egress: [] }];
  const group = { selector: "all()", policies: [policy("db")] };
  const endpoint = { interfaceName: "calix", up: true, tiers: [{ ...tiers[0]!, ingress: [group] }], profiles: [] };
  const all = [...chains, ...workloadChains(endpoint, settings), ...staticChains("filter", settings)];
  const reasons = new Map(all.flatMap(dropReasons));
  const prefixes = all.map(withDropLogs).flatMap(text).flatMap((l) => /--nflog-prefix (\S+)/.exec(l)?.[1] ?? []);
  ok(prefixes.length > 6);
  for (const prefix of prefixes) ok(prefix.length < 64 && reasons.has(prefix), prefix);
  const deciders = [...reasons.values()].map(({ decider }) => decider);
  ok(deciders.some((d) => d.by === "rule" && d.policy === `NetworkPolicy:shop/${long}` && d.index === 1));
  ok(deciders.some((d) => d.by === "tier") && deciders.some((d) => d.by === "no profile matched"));
});
