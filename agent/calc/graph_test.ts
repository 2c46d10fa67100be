import assert from "node:assert/strict";
import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { anyResource, pod, resource } from "../../tests/random_policy.ts";
import { applyDelta } from "./apply_delta.ts";
import { emptyState, fromScratch, type PolicyState } from "./from_scratch.ts";
import { Graph, type GraphChange } from "./graph.ts";
import { verdictOf } from "./verdict.ts";
import { parseIp } from "../../lib/ip.ts";

/** Network sets of which not all networks can be read; no good version of them ever comes. */
const partialSet = fc.tuple(
  fc.constantFrom("t0", "t1"),
  fc.dictionary(fc.constantFrom("a", "b"), fc.constantFrom("x", "y")),
)
  .map(([name, labels]) =>
    resource("GlobalNetworkSet", name, undefined, { nets: ["192.0.2.9/32", "10.0.0/8"] }, labels)
  );

/** A deleted tier keeps its last default action in the graph; the oracle has no memory, so it is told apart here. */
function comparable(state: PolicyState): unknown {
  const endpoints = [...state.endpoints].map(([id, e]) => {
    const plain = (t: typeof e.tiers) =>
      t.map((x) => (x.name === "gone" || x.name === "first" || x.name === "default" ? { ...x } : x));
    return [id, { ...e, tiers: plain(e.tiers) }];
  });
  const sorted = (entries: Iterable<[string, unknown]>) =>
    Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    endpoints: sorted(endpoints as [string, unknown][]),
    policies: sorted(state.policies),
    profiles: sorted(state.profiles),
    sets: sorted([...state.sets].map(([id, s]) => [id, { type: s.type, members: [...s.members].sort() }])),
  };
}

Deno.test("after any sequence of changes the state equals a calculation from scratch", () => {
  const any = fc.oneof({ arbitrary: anyResource, weight: 12 }, { arbitrary: partialSet, weight: 1 });
  const step = fc.record({ resource: any, remove: fc.boolean(), flush: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 15, maxLength: 60 }), (steps) => {
      const graph = new Graph({ node: "n1" });
      const state = emptyState();
      const stored = new Map<string, Resource>();
      for (const { resource, remove, flush } of steps) {
        const key = `${resource.kind}/${resource.metadata.namespace}/${resource.metadata.name}`;
        // Deleting a tier is the one thing that leaves a memory, its default action: it has a test of its own.
        const change: GraphChange = remove && resource.kind !== "Tier" ? { delete: resource } : { set: resource };
        // What cannot be read whole leaves what there is, so that the oracle keeps the first of these, too.
        const stays = resource.metadata.name.startsWith("t") && stored.has(key);
        if ("delete" in change) stored.delete(key);
        else if (!stays) stored.set(key, resource);
        graph.update([change]);
        if (flush) applyDelta(state, graph.flush());
      }
      applyDelta(state, graph.flush());
      assert.deepEqual(comparable(state), comparable(fromScratch(stored.values(), "n1")));
      assert.deepEqual(graph.flush(), new Graph({ node: "n1" }).flush(), "a second flush has nothing to say");
    }),
    { numRuns: 600 },
  );
});

Deno.test("a deleted tier keeps its default action for the policies that still stand in it, and is reported", () => {
  const graph = new Graph({ node: "n1" });
  graph.update([
    { set: resource("Tier", "first", undefined, { order: 1, defaultAction: "Pass" }) },
    { set: pod("p0", "n1", { a: "x" }, ["10.0.0.1/32"]) },
    { set: resource("GlobalNetworkPolicy", "g", undefined, { tier: "first", selector: "all()", types: ["Ingress"] }) },
  ]);
  graph.update([{ delete: resource("Tier", "first", undefined, {}) }]);
  assert.deepEqual(graph.flush().endpoints[0]!.tiers[0]!.defaultAction, "Pass");
  assert.deepEqual(graph.missingTiers(), [{ tier: "first", policies: ["GlobalNetworkPolicy:g"] }]);
});

Deno.test("a set that its last user gives up and another takes in one step is sent anew, whole", () => {
  const uses = (name: string, selector: string): GraphChange => ({
    set: resource("GlobalNetworkPolicy", name, undefined, {
      selector: "all()",
      types: ["Ingress"],
      ingress: [{ action: "Allow", source: { selector } }],
    }),
  });
  const graph = new Graph({ node: "n1" });
  const state = emptyState();
  graph.update([
    { set: pod("p0", "n1", { a: "x" }, ["10.0.0.1/32"]) },
    uses("one", "a == 'x'"),
    uses("two", "a == 'z'"),
  ]);
  applyDelta(state, graph.flush());
  graph.update([
    { set: pod("p0", "n1", { a: "y" }, ["10.0.0.1/32"]) },
    uses("one", "a == 'z'"),
    uses("two", "a == 'x'"),
  ]);
  applyDelta(state, graph.flush());
  assert.deepEqual([...state.sets.values()].map((s) => [...s.members]), [[], []]);
});

/** Verdict for a TCP packet to port 80 of the pod 10.0.0.1 on n1. */
function ingress(graph: Graph, from: string): string {
  const state = emptyState();
  applyDelta(state, graph.flush());
  const endpoint = state.endpoints.get("WorkloadEndpoint:shop/n1-k8s-p0-eth0")!;
  const packet = { src: parseIp(from), dst: parseIp("10.0.0.1"), protocol: 6, srcPort: 999, dstPort: 80 };
  return verdictOf(state, endpoint, "ingress", packet).verdict;
}

function withPolicy(spec: object): Graph {
  const graph = new Graph({ node: "n1" });
  graph.update([
    { set: resource("Tier", "default", undefined, { order: 100, defaultAction: "Deny" }) },
    { set: resource("Profile", "kns.shop", undefined, { ingress: [{ action: "Allow" }] }) },
    { set: pod("p0", "n1", {}, ["10.0.0.1/32"]) },
    { set: resource("NetworkPolicy", "q", "shop", { types: ["Ingress"], ...spec }) },
  ]);
  return graph;
}

Deno.test("a Deny rule that cannot be understood denies, an Allow rule that cannot be understood never matches", () => {
  const denies = withPolicy({ ingress: [{ action: "Deny", source: { nets: ["nonsense"] } }, { action: "Allow" }] });
  assert.equal(ingress(denies, "192.0.2.1"), "deny");
  assert.match(denies.refused()[0]!.problems[0]!, /spec.ingress\[0\]: "nonsense" is not a network/);
  const allows = withPolicy({ ingress: [{ action: "Allow", source: { selector: "((" } }] });
  assert.equal(ingress(allows, "192.0.2.1"), "deny");
  assert.equal(ingress(withPolicy({ ingress: [{ action: "Explode" }, { action: "Allow" }] }), "192.0.2.1"), "deny");
});

Deno.test("a policy whose selector cannot be understood denies in its scope", () => {
  assert.equal(ingress(withPolicy({ selector: "a ==", ingress: [{ action: "Allow" }] }), "192.0.2.1"), "deny");
});

Deno.test("the last good version of a policy stays when the next one cannot be understood", () => {
  const graph = withPolicy({ ingress: [{ action: "Allow", source: { nets: ["192.0.2.0/24"] } }] });
  graph.update([{
    set: resource("NetworkPolicy", "q", "shop", {
      types: ["Ingress"],
      ingress: [{ action: "Allow", source: { nets: ["x"] } }],
    }),
  }]);
  assert.equal(graph.refused().length, 1);
  assert.equal(ingress(graph, "192.0.2.1"), "allow");
  graph.update([{
    set: resource("NetworkPolicy", "q", "shop", { types: ["Ingress"], ingress: [{ action: "Allow" }] }),
  }]);
  assert.equal(graph.refused().length, 0);
});

for (const spec of [null, 7, "text", []]) {
  Deno.test(`a policy with spec ${JSON.stringify(spec)} is refused by name and leaves the others in force`, () => {
    const graph = withPolicy({ ingress: [{ action: "Allow", source: { nets: ["192.0.2.0/24"] } }] });
    graph.update([{ set: resource("NetworkPolicy", "broken", "shop", spec) }]);
    if (spec !== null) assert.equal(graph.refused()[0]!.id, "NetworkPolicy:shop/broken");
    graph.update([{ delete: resource("NetworkPolicy", "broken", "shop", {}) }]);
    assert.deepEqual(graph.refused(), []);
    assert.equal(ingress(graph, "192.0.2.1"), "allow");
  });
}

Deno.test("one changed endpoint touches only what it concerns", () => {
  const graph = new Graph({ node: "n1" });
  const changes: GraphChange[] = [{
    set: resource("Tier", "default", undefined, { order: 100, defaultAction: "Deny" }),
  }];
  for (let i = 0; i < 300; i++) {
    changes.push({ set: pod(`p${i}`, i % 2 ? "n1" : "n2", { app: `a${i}` }, [`10.0.${i >> 8}.${i & 255}/32`]) });
    changes.push({
      set: resource("NetworkPolicy", `q${i}`, "shop", {
        selector: `app == 'a${i}'`,
        types: ["Ingress"],
        ingress: [{ action: "Allow", source: { selector: `app == 'a${(i + 1) % 300}'` } }],
      }),
    });
  }
  graph.update(changes);
  graph.flush();
  graph.update([{ set: pod("p6", "n2", { app: "a6" }, ["10.9.9.9/32"]) }]);
  const delta = graph.flush();
  assert.deepEqual(delta.setsChanged.map((c) => [c.add, c.remove]), [[["10.9.9.9/32"], ["10.0.0.6/32"]]]);
  assert.deepEqual([delta.endpoints.length, delta.policies.length, delta.setsAdded.length], [0, 0, 0]);
});

Deno.test("the profile projectcalico-default-allow is in no key and allows everything", () => {
  const graph = new Graph({ node: "n1" });
  const name = "projectcalico-default-allow";
  const host = resource("HostEndpoint", "h", undefined, { node: "n1", interfaceName: "*", profiles: [name, "none"] });
  graph.update([{ set: host }]);
  const state = emptyState();
  applyDelta(state, graph.flush());
  const profiles = [...state.profiles.values()].map((
    p,
  ) => [p.name, p.missing, p.ingress[0]!.action, p.egress[0]!.action]);
  assert.deepEqual(profiles, [[name, false, "allow", "allow"], ["none", true, "deny", "deny"]]);
  assert.deepEqual(comparable(state), comparable(fromScratch([host], "n1")));
});

Deno.test("a network set that is not known whole: Deny denies everybody, Allow allows what is known, until it is mended", () => {
  const graph = new Graph({ node: "n1" });
  const bad = { kind: "bad", known: "192.0.2.9" };
  const set = (nets: string[]) => resource("GlobalNetworkSet", "t", undefined, { nets }, { kind: bad.kind });
  const from = (action: string, more: object) => ({ action, source: more });
  const is = { selector: "kind == 'bad'" }, isNot = { notSelector: "kind == 'bad'" };
  const policy = (...ingress: object[]) =>
    resource("GlobalNetworkPolicy", "g", undefined, { selector: "all()", types: ["Ingress"], ingress });
  const state = emptyState();
  const verdict = (src: string) => {
    applyDelta(state, graph.flush());
    const endpoint = state.endpoints.get("WorkloadEndpoint:shop/n1-k8s-p0-eth0")!;
    const packet = { protocol: 6, src: parseIp(src), dst: parseIp("10.0.0.1"), srcPort: 1, dstPort: 80 };
    return verdictOf(state, endpoint, "ingress", packet).verdict;
  };
  const asked = (rules: object[], nets: string[]) => {
    graph.update([{ set: policy(...rules) }, { delete: set([]) }, { set: set(nets) }]);
    return [verdict("192.0.2.9"), verdict("192.0.2.77")];
  };
  graph.update([{ set: pod("p0", "n1", {}, ["10.0.0.1/32"]) }]);
  const half = ["192.0.2.9/32", "192.0.2.77/99"], whole = ["192.0.2.9/32", "192.0.2.77/32"];
  const allow = { action: "Allow" };
  assert.deepEqual(asked([from("Deny", is), allow], half), ["deny", "deny"], "Deny by the set");
  assert.deepEqual(asked([from("Allow", is)], half), ["allow", "deny"], "Allow by the set");
  assert.deepEqual(asked([from("Allow", isNot)], half), ["deny", "deny"], "Allow of all others");
  assert.deepEqual(asked([from("Deny", isNot), allow], half), ["allow", "deny"], "Deny of all others");
  assert.deepEqual(asked([from("Pass", is), allow], half), ["deny", "deny"], "Pass by the set");
  assert.deepEqual(asked([from("Deny", is), from("Allow", is)], half), ["deny", "deny"], "one set in both");
  graph.update([{ set: set(whole) }]);
  assert.deepEqual([verdict("192.0.2.77"), verdict("192.0.2.78")], ["deny", "deny"]);
  assert.deepEqual(asked([from("Allow", is)], whole), ["allow", "allow"], "mended");
  graph.update([{ set: set(half) }]);
  assert.deepEqual([verdict("192.0.2.9"), verdict("192.0.2.77")], ["allow", "allow"], "the last good version stays");
});
