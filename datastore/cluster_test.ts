import assert from "node:assert/strict";
import type { Resource } from "./kind.ts";
import { clusterDefaults, newResource, randomGuid, withWords } from "./cluster.ts";

const facts = { node: "alpha", clusterType: "k8s,bgp", guid: () => "0".repeat(32) };
const of = (kind: string, name = "default") => clusterDefaults(facts).find((d) => d.kind === kind && d.name === name)!;
const stored = (kind: string, spec: Record<string, unknown>): Resource => newResource(kind, "default", spec);

Deno.test("the ClusterInformation comes last and never has a version of ours", () => {
  const last = clusterDefaults(facts).at(-1)!;
  assert.equal(last.kind, "ClusterInformation");
  assert.deepEqual(last.wanted(undefined)!.spec, {
    clusterGUID: "0".repeat(32),
    clusterType: "k8s,bgp",
    datastoreReady: true,
  });
});

Deno.test("an existing ClusterInformation gets only what it lacks; a lock stays", () => {
  const one = of("ClusterInformation");
  const full = { clusterGUID: "g", clusterType: "typha,bgp,k8s", calicoVersion: "v3", datastoreReady: false };
  assert.equal(one.wanted(stored("ClusterInformation", full)), undefined);
  const part = { clusterGUID: "", clusterType: "bgp", calicoVersion: "v3", other: 1 };
  assert.deepEqual(one.wanted(stored("ClusterInformation", part))!.spec, {
    clusterGUID: "0".repeat(32),
    clusterType: "bgp,k8s",
    calicoVersion: "v3",
    other: 1,
    datastoreReady: true,
  });
});

Deno.test("Felix's defaults are filled in where they are unset, and never overwrite", () => {
  const one = of("FelixConfiguration");
  assert.deepEqual(one.wanted(undefined)!.spec, { logSeverityScreen: "Info", reportingInterval: "0s" });
  assert.equal(
    one.wanted(stored("FelixConfiguration", { logSeverityScreen: "Debug", reportingInterval: "1m" })),
    undefined,
  );
  assert.deepEqual(one.wanted(stored("FelixConfiguration", { logSeverityScreen: "", ipv6Support: false }))!.spec, {
    logSeverityScreen: "Info",
    ipv6Support: false,
    reportingInterval: "0s",
  });
  assert.deepEqual(of("FelixConfiguration", "node.alpha").wanted(undefined)!.spec, {
    defaultEndpointToHostAction: "Return",
  });
});

Deno.test("tiers and the other configurations are created when missing and else left alone", () => {
  assert.deepEqual(
    clusterDefaults(facts).filter((d) => d.kind === "Tier").map((d) => [d.name, d.wanted(undefined)!.spec]),
    [
      ["default", { order: 1000000, defaultAction: "Deny" }],
      ["kube-admin", { order: 1000, defaultAction: "Pass" }],
      ["kube-baseline", { order: 10000000, defaultAction: "Pass" }],
    ],
  );
  for (const kind of ["Tier", "BGPConfiguration", "IPAMConfiguration"]) {
    assert.equal(of(kind).wanted(stored(kind, { anything: 1 })), undefined);
  }
});

Deno.test("words are added once, in their order, after those that are there", () => {
  assert.equal(withWords("", ""), "");
  assert.equal(withWords("a,b", "c,b,,d"), "a,b,c,d");
});

Deno.test("a cluster id is a UUID of version 4 without dashes", () => {
  for (const random of [() => 0, () => 0.999999, Math.random]) {
    assert.match(randomGuid(random), /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  }
});
