import assert from "node:assert/strict";
import { resourceKey } from "../datastore/keys.ts";
import type { KeyValue } from "../datastore/store.ts";
import { FelixSources } from "./felix_sources.ts";
import { anyText, flag, hostPorts, integer, milliseconds, namePatterns, resolveSettings } from "./settings.ts";

function stored(kind: string, name: string, spec: unknown, metadata: Record<string, unknown> = {}): KeyValue {
  const value = JSON.stringify({ apiVersion: "projectcalico.org/v3", kind, metadata: { name, ...metadata }, spec });
  return { key: resourceKey(kind, name), value, revision: 1n, created: 1n };
}

const felix = (name: string, spec: unknown, metadata?: Record<string, unknown>) =>
  stored("FelixConfiguration", name, spec, metadata);

function sourcesWith(set: KeyValue[], env: Record<string, string> = {}): FelixSources {
  const sources = new FelixSources("n1", (name) => env[name]);
  assert.deepEqual([...sources.update({ set, deleted: [] }).broken], []);
  return sources;
}

const prefixOf = (sources: FelixSources): string =>
  resolveSettings({ prefix: ["logPrefix", anyText, "calico-packet"] }, sources.sources()).settings.prefix;

Deno.test("environment, own, selecting and cluster's FelixConfiguration hold in this order", () => {
  const rack = { labels: { rack: "r1" } };
  const all = [
    felix("default", { logPrefix: "cluster" }),
    felix("racks", { logPrefix: "rack", nodeSelector: "rack == 'r1'" }, { creationTimestamp: "2026-01-02T00:00:00Z" }),
    felix("node.n1", { logPrefix: "own" }),
    felix("node.n2", { logPrefix: "another node's" }),
    stored("Node", "n1", {}, rack),
  ];
  const sources = sourcesWith(all, { FELIX_LOGPREFIX: "environment" });
  assert.equal(prefixOf(sources), "environment");
  const quiet = sourcesWith(all);
  assert.equal(prefixOf(quiet), "own");
  quiet.update({ set: [], deleted: [resourceKey("FelixConfiguration", "node.n1")] });
  assert.equal(prefixOf(quiet), "rack");
  quiet.update({ set: [stored("Node", "n1", {}, { labels: { rack: "r2" } })], deleted: [] });
  assert.equal(prefixOf(quiet), "cluster");
  quiet.update({ set: [stored("Node", "n1", {}, rack)], deleted: [] });
  assert.equal(prefixOf(quiet), "rack");
  quiet.update({ set: [], deleted: [resourceKey("Node", "n1")] });
  assert.equal(prefixOf(quiet), "cluster");
  quiet.update({ set: [], deleted: [resourceKey("FelixConfiguration", "default")] });
  assert.equal(prefixOf(quiet), "calico-packet");
});

Deno.test("of several that select this node the oldest holds, and of one age that with the smaller name", () => {
  const sources = sourcesWith([
    stored("Node", "n1", {}),
    felix("b", { logPrefix: "b", nodeSelector: "all()" }, { creationTimestamp: "2026-01-01T00:00:00Z" }),
    felix("a", { logPrefix: "a", nodeSelector: "all()" }, { creationTimestamp: "2026-01-02T00:00:00Z" }),
    felix("c", { logPrefix: "c", nodeSelector: "all()" }, { creationTimestamp: "2026-01-01T00:00:00Z" }),
    felix("none", { logPrefix: "no selector" }, { creationTimestamp: "2025-01-01T00:00:00Z" }),
  ]);
  assert.equal(prefixOf(sources), "b");
  sources.update({ set: [], deleted: [resourceKey("FelixConfiguration", "b")] });
  assert.equal(prefixOf(sources), "c");
});

Deno.test("an annotation stands in the place of its parameter's field, in any case; an empty one takes it away", () => {
  const annotations = { "config.projectcalico.org/LOGprefix": "annotated" };
  const sources = sourcesWith([felix("default", { logPrefix: "field" }, { annotations })]);
  assert.equal(prefixOf(sources), "annotated");
  const empty = { "config.projectcalico.org/LogPrefix": "" };
  sources.update({ set: [felix("default", { logPrefix: "field" }, { annotations: empty })], deleted: [] });
  assert.equal(prefixOf(sources), "calico-packet");
  const own = { "config.projectcalico.org/TortieCutDeniedFlows": "true", "config.projectcalico.org/IpInIpMtu": "1400" };
  sources.update({ set: [felix("default", {}, { annotations: own })], deleted: [] });
  const { settings } = resolveSettings<{ cut: boolean; mtu: number }>(
    { cut: ["tortieCutDeniedFlows", flag, false], mtu: ["ipipMTU", integer(0, 65535), 0] },
    sources.sources(),
  );
  assert.deepEqual(settings, { cut: true, mtu: 1400 });
});

Deno.test("a FelixConfiguration that cannot be read leaves its last good version in force, and is named", () => {
  const sources = sourcesWith([stored("Node", "n1", {}), felix("default", { logPrefix: "good" })]);
  const key = resourceKey("FelixConfiguration", "default");
  for (const value of ["{", "[]", '"text"', "", "7"]) {
    const { broken } = sources.update({ set: [{ key, value, revision: 2n, created: 1n }], deleted: [] });
    assert.ok(broken.has(key), value);
    assert.equal(prefixOf(sources), "good");
  }
  const { broken } = sources.update({ set: [felix("bad", { nodeSelector: "rack ==" })], deleted: [] });
  assert.equal(broken.size, 1);
});

Deno.test("none means off, empty and 0 where that is possible", () => {
  const none = { FELIX_IPV6SUPPORT: "none", FELIX_MAXIPSETSIZE: "None", FELIX_LOGPREFIX: "none" };
  const env = {
    ...none,
    FELIX_FAILSAFEINBOUNDHOSTPORTS: "NONE",
    FELIX_INTERFACEEXCLUDE: "none",
    FELIX_ROUTEREFRESHINTERVAL: "none",
    FELIX_NATPORTRANGE: "none",
  };
  const { settings, problems } = resolveSettings<Record<string, unknown>>({
    ipv6: ["ipv6Support", flag, true],
    size: ["maxIpsetSize", integer(1, 100), 7],
    prefix: ["logPrefix", anyText, "calico-packet"],
    ports: ["failsafeInboundHostPorts", hostPorts, [{ protocol: "tcp", port: 22 }]],
    exclude: ["interfaceExclude", namePatterns, ["^kube-ipvs0$"]],
    refresh: ["routeRefreshInterval", milliseconds, 90_000],
    nat: ["natPortRange", () => undefined, undefined],
  }, sourcesWith([], env).sources());
  assert.deepEqual(settings, { ipv6: false, size: 7, prefix: "", ports: [], exclude: [], refresh: 0, nat: undefined });
  assert.deepEqual(problems, [{ object: "environment", setting: "FELIX_MAXIPSETSIZE", value: "None" }]);
});

Deno.test("numbers and patterns are read as Go reads them", () => {
  const read = integer(-1, 0xffffffff);
  const good: [unknown, number][] = [["0x1F", 31], ["017", 15], ["0b11", 3], ["0", 0], [12, 12], ["-1", -1]];
  for (const [text, n] of good) assert.equal(read(text), n, String(text));
  for (const text of ["", "1e3", "1.5", " 7", "08", "ten", "4294967296", "-2", null]) {
    assert.equal(read(text), undefined, String(text));
  }
  assert.deepEqual(namePatterns("kube-ipvs0,/^docker[0-9]+$/,a.b"), ["^kube-ipvs0$", "^docker[0-9]+$", "^a\\.b$"]);
  for (const bad of ["/(/", "a b", "", "x,"]) assert.equal(namePatterns(bad), undefined, bad);
});
