import assert from "node:assert/strict";
import type { BGPFilterRule } from "../datastore/kinds/bgp_filter.ts";
import { outcomeOf } from "./_fixtures.ts";
import { filterFunctionName } from "./filters.ts";

/** The lines of the function of filter `f`, and the problems, for one peer that uses it. */
function rendered(rules: BGPFilterRule[], peer: { asNumber?: number; localASNumber?: number } = {}) {
  const { text, problems } = outcomeOf({
    configurations: { default: { nodeToNodeMeshEnabled: false } },
    peers: { tor: { peerIP: "10.0.0.9", asNumber: 65010, filters: ["f"], ...peer } },
    filters: { f: { importV4: rules, exportV4: rules } },
  });
  const lines = (head: string) => {
    const at = text.indexOf(`${head} {`);
    return at < 0 ? [] : text.slice(at).split("\n}\n")[0]!.split("\n").slice(1).map((l) => l.trim());
  };
  const of = (direction: string) => lines(`function 'bgp_f_${direction}FilterV4'()`);
  return { imports: of("import"), exports: of("export"), text, problems };
}

Deno.test("a rule that cannot be understood rejects what reaches it, is named, and the rules before it stay", () => {
  const good: BGPFilterRule = { action: "Accept", cidr: "10.0.0.0/8", matchOperator: "In" };
  const bad: [BGPFilterRule, RegExp][] = [
    [{ action: "Accept", cidr: "10.0.0.0/8" }, /matchOperator/],
    [{ action: "Accept", cidr: "fd00::/8", matchOperator: "In" }, /not an IPv4 network/],
    [{ action: "Accept", cidr: "10.0.0.0/40", matchOperator: "In" }, /not an IPv4 network/],
    [{ action: "Drop" }, /action "Drop"/],
    [{ action: "Reject", source: "Everybody" }, /source/],
    [{ action: "Reject", interface: 'e"th' }, /interface/],
    [{ action: "Accept", communities: { values: ["70000:1"] } }, /community/],
    [{ action: "Accept", operations: [{}] }, /operation/],
    [{ action: "Accept", operations: [{ addCommunity: { value: "x" } }] }, /operation/],
  ];
  for (const [rule, why] of bad) {
    const { imports, problems } = rendered([good, rule, good]);
    assert.deepEqual(imports.slice(0, 2), ["if (net ~ 10.0.0.0/8) then { accept; }", "reject;"]);
    assert.match(problems[0]!, why);
    assert.match(problems[0]!, /^BGPFilter f, spec.importV4\[1\]/);
  }
});

Deno.test("bounds of the prefix length become a set; with Equal they never match, and neither do empty ones", () => {
  const rule = (matchOperator: string, min?: number, max?: number): BGPFilterRule => ({
    ...{ action: "Accept", cidr: "10.0.0.0/16", matchOperator },
    prefixLength: { min, max },
  });
  const { imports } = rendered([
    rule("In", 24, 28),
    rule("NotIn", undefined, 20),
    rule("In", 8),
    rule("Equal", 24, 28),
    rule("NotEqual", 24, 28),
    rule("In", 28, 24),
    rule("NotIn", 17, 8),
  ]);
  assert.deepEqual(imports.map((l) => /^if \((.*)\) then/.exec(l)![1]), [
    "net ~ [ 10.0.0.0/16{24,28} ]",
    "net !~ [ 10.0.0.0/16{16,20} ]",
    "net ~ [ 10.0.0.0/16{16,32} ]",
    "false",
    "true",
    "false",
    "true",
  ]);
});

Deno.test("bounds beyond the family's length reject from there on, those that leave nothing are named", () => {
  const rule = (min: number, max: number): BGPFilterRule => ({
    ...{ action: "Accept", cidr: "10.0.0.0/16", matchOperator: "In", prefixLength: { min, max } },
  });
  const { imports, problems } = rendered([rule(20, 40), rule(28, 24)]);
  assert.deepEqual(imports, ["reject;", "if (false) then { accept; }"]);
  assert.match(problems.join("\n"), /prefixLength 20-40 is not within 0 and 32.*prefixLength 28-24 leaves nothing/s);
});

Deno.test("an export rule on the path counts our AS first toward an external peer, and only there", () => {
  const rules: BGPFilterRule[] = [
    { action: "Reject", asPathPrefix: [64512, 65020] },
    { action: "Reject", asPathPrefix: [65020] },
    { action: "Accept", asPathPrefix: [64512] },
  ];
  const external = rendered(rules).text;
  const filter = external.slice(external.indexOf("export filter"));
  assert.match(filter, /if \(bgp_path ~ \[= 65020 \* =\]\) then \{ reject; \}/);
  assert.match(filter, /if \(false\) then \{ reject; \}/);
  assert.match(filter, /if \(true\) then \{ accept; \}/);
  const internal = rendered(rules, { asNumber: 64512 });
  assert.match(internal.text, /export filter \{\s+calico_priority4\(\);\s+'bgp_f_exportFilterV4'\(\);/);
  assert.equal(internal.exports[0], "if (bgp_path ~ [= 64512 65020 * =]) then { reject; }");
  const own = rendered(rules, { asNumber: 65010, localASNumber: 64999 }).text;
  assert.doesNotMatch(own.slice(own.indexOf("export filter")), /if \(true\)/);
});

Deno.test("prepended AS numbers end up in the order in which they are listed", () => {
  const { exports } = rendered([{ action: "Accept", operations: [{ prependASPath: { prefix: [1, 2] } }] }]);
  assert.deepEqual(exports, ["bgp_path.prepend(2); bgp_path.prepend(1); accept;"]);
});

Deno.test("names longer than 45 characters are cut and hashed, alike in definition and call", () => {
  assert.equal(filterFunctionName("f", "import", 6), "'bgp_f_importFilterV6'");
  const long = filterFunctionName("a".repeat(46), "export", 4);
  assert.match(long, /^'bgp_a{28}_[0-9A-F]{16}_exportFilterV4'$/);
  assert.ok(long.length <= 66);
  assert.notEqual(long, filterFunctionName("a".repeat(47), "export", 4));
});
