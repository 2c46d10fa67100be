import assert from "node:assert/strict";
import fc from "fast-check";
import { decisiveTerms, termText } from "../../datastore/selector/decisive.ts";
import { parseSelector } from "../../datastore/selector/index.ts";
import { parseIp } from "../../lib/ip.ts";
import { parseRule, type StoredRule } from "../calc/rule_input.ts";
import { type Packet, ruleMatches } from "../calc/verdict.ts";
import { matchWords, mismatchOf } from "./mismatch.ts";

const packet = fc.record({
  src: fc.constantFrom("10.65.0.10", "203.0.113.5", "fd00:65::10", "2001:db8:113::5").map((t) => parseIp(t)),
  dst: fc.constantFrom("10.65.0.11", "198.51.100.7", "fd00:65::11").map((t) => parseIp(t)),
  protocol: fc.constantFrom(6, 17, 1, 58, 132, 99),
  srcPort: fc.constantFrom(30000, 30010),
  dstPort: fc.constantFrom(80, 443, 8080, 53, 75),
}).filter(({ src, dst }) => src.v === dst.v).map((p): Packet =>
  p.protocol === 1 || p.protocol === 58 ? { ...p, icmp: { type: p.protocol === 1 ? 8 : 128, code: 0 } } : p
);

const maybe = <T>(...values: T[]) => fc.option(fc.constantFrom(...values), { nil: undefined, freq: 2 });
const side = fc.record({
  selector: maybe("app == 'x'", "has(role)"),
  notSelector: maybe("role == 'x'"),
  nets: maybe(["10.65.0.0/24"], ["203.0.113.0/24", "fd00:65::/64"], ["198.51.100.7/32"]),
  notNets: maybe(["10.65.0.10/32"], ["fd00:65::11/128", "203.0.113.0/24"]),
}, { requiredKeys: [] });
const ports = maybe<(string | number)[]>([80], ["http"], ["440:450", "dns"], [1]);
const withPorts = fc.record({ side, ports, notPorts: ports }).map(({ side, ...more }) => ({ ...side, ...more }));
const someAction = fc.constantFrom("Allow", "Deny", "Log");
const anyRule = fc.oneof(
  fc.record({
    action: someAction,
    ipVersion: maybe(4, 6),
    protocol: fc.constantFrom("TCP", "UDP", "SCTP"),
    source: side,
    destination: withPorts,
  }),
  fc.record({ action: someAction, protocol: maybe("ICMP", "ICMPv6"), notProtocol: maybe(6, 17), source: side }),
  fc.record({ action: someAction, protocol: fc.constant("ICMP"), icmp: maybe({ type: 8 }, { type: 8, code: 1 }) }),
  fc.record({ action: someAction, protocol: fc.constant("ICMPv6"), notICMP: maybe({ type: 128 }, { type: 13 }) }),
);

Deno.test("a rule matches exactly when no part of it fails, and what fails is told", () => {
  const members = fc.dictionary(fc.constantFrom("0", "1", "2", "3"), fc.boolean());
  let matched = 0;
  fc.assert(
    fc.property(anyRule, packet, members, (stored, packet, holds) => {
      const { rule } = parseRule(stored as StoredRule, "red").parsed!;
      // Any set holds everything or nothing.
      const all = new Set(["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]);
      const of = (id: string) => (holds[String(id.charCodeAt(3) % 4)] ? all : new Set<string>());
      const why = mismatchOf(rule, packet, of, () => "set");
      assert.equal(why === undefined, ruleMatches(rule, packet, of));
      assert.doesNotMatch(why ?? "", /do not hold together/);
      if (why === undefined) {
        matched++;
        assert.ok(matchWords(rule, packet, () => "set").length > 0);
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(matched > 20, `only ${matched} rules matched`);
});

Deno.test("the terms that decide: all that hold, or the first that fails; under a negation as they stand there", () => {
  const terms = (selector: string, labels: Record<string, string>) => {
    const { holds, terms } = decisiveTerms(parseSelector(selector).root, labels);
    return [holds, ...terms.map(termText)];
  };
  const labels = { app: "web", env: "" };
  assert.deepEqual(terms("app == 'web' && has(env)", labels), [
    true,
    'app == "web" (app is "web")',
    'has(env) (env is "")',
  ]);
  assert.deepEqual(terms("has(env) && app == 'db' && has(x)", labels), [false, 'app == "db" (app is "web")']);
  assert.deepEqual(terms("app == 'db' || has(x)", labels), [
    false,
    'app == "db" (app is "web")',
    "has(x) (no label x)",
  ]);
  assert.deepEqual(terms("has(x) || app != 'db'", labels), [true, 'app != "db" (app is "web")']);
  assert.deepEqual(terms("!(has(x) || app == 'web')", labels), [false, '!app == "web" (app is "web")']);
  assert.deepEqual(terms("", labels), [true, "all()"]);
});
