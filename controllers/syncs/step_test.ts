import { deepEqual, equal } from "node:assert/strict";
import type { Undecodable } from "../../datastore/codec.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { labelledNode, nodeSync } from "./nodes.ts";
import { podSync } from "./pods.ts";
import { policySync } from "./policies.ts";
import { namespaceSync, serviceAccountSync } from "./profiles.ts";
import type { KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import { problemsAnnotation, stepTo } from "./step.ts";
import type { Sync } from "./sync.ts";

const profile = (spec: Record<string, unknown>, metadata = {}): Resource => ({
  ...{ kind: "Profile", apiVersion, spec },
  metadata: { name: "kns.a", resourceVersion: "5", ...metadata },
});
const kv = (key: string, resource: Resource) => ({ key, value: JSON.stringify(resource), revision: 5n, created: 5n });
const sourceOf = (sync: Sync) => sync.sources[0]!;
const take = (sync: Sync, ...all: KubernetesObject[]) =>
  sync.kubernetes({ all: all.map((object) => sourceOf(sync).keep(object)) }, sourceOf(sync));
const change = (sync: Sync, object: KubernetesObject, gone = false) =>
  sync.kubernetes({ changes: [{ object: sourceOf(sync).keep(object), gone }] }, sourceOf(sync));

Deno.test("what is as it should be needs no step, whatever labels and annotations others gave it", () => {
  const want = profile({ labelsToApply: { a: "b", c: "d" } });
  const have = profile({ labelsToApply: { c: "d", a: "b" } }, { labels: { note: "x" }, annotations: { by: "me" } });
  equal(stepTo(want, have).do, "nothing");
  equal(stepTo(undefined, undefined).do, "nothing");
});

Deno.test("a changed spec is put back, and metadata of others stay", () => {
  const have = profile({ labelsToApply: {} }, { labels: { note: "x" }, uid: "u" });
  const step = stepTo(profile({ labelsToApply: { a: "b" } }, { resourceVersion: undefined }), have);
  equal(step.do, "update");
  const { resource } = step as { resource: Resource };
  deepEqual(resource.spec, { labelsToApply: { a: "b" } });
  deepEqual([resource.metadata.labels, resource.metadata.uid, resource.metadata.resourceVersion], [
    { note: "x" },
    "u",
    "5",
  ]);
});

Deno.test("what cannot be read is written over, not deleted first", () => {
  const have: Undecodable = { undecodable: true, key: "k", why: "not JSON", revision: 8n };
  const want = profile({});
  deepEqual(stepTo(want, have), { do: "overwrite", resource: want, revision: 8n });
  equal(stepTo(undefined, have).do, "delete");
});

Deno.test("what could not be followed is said on the object, until it can be", () => {
  const sync = policySync(), key = resourceKey("NetworkPolicy", "knp.default.p", "shop");
  const source = (cidr: string) => ({
    metadata: { name: "p", namespace: "shop" },
    spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr } }] }] },
  });
  deepEqual(take(sync, source("10.0.0.0/99")), [key]);
  const made = sync.step(key, undefined) as { do: string; resource: Resource };
  equal(made.do, "create");
  equal(
    made.resource.metadata.annotations![problemsAnnotation],
    'spec.ingress[0]: "10.0.0.0/99" is not a CIDR; its peer is left out',
  );
  equal(made.resource.spec.ingress, undefined);
  const stored = { ...made.resource, metadata: { ...made.resource.metadata, resourceVersion: "5" } };
  equal(sync.step(key, stored).do, "nothing");
  change(sync, source("10.0.0.0/8"));
  const mended = sync.step(key, stored) as { do: string; resource: Resource };
  deepEqual([mended.do, mended.resource.metadata.annotations], ["update", {}]);
});

Deno.test("only keys with our prefix are ours; one without an origin goes", () => {
  const cases: [Sync, string, string, string | undefined][] = [
    [namespaceSync(), "Profile", "kns.", undefined],
    [serviceAccountSync(), "Profile", "ksa.", undefined],
    [policySync(), "NetworkPolicy", "knp.default.", "shop"],
  ];
  for (const [sync, kind, prefix, namespace] of cases) {
    const ours = resourceKey(kind, `${prefix}x`, namespace), theirs = resourceKey(kind, "x", namespace);
    const other = resourceKey("GlobalNetworkPolicy", `${prefix}x`);
    const value = profile({});
    deepEqual(sync.stored({ set: [ours, theirs, other].map((key) => kv(key, value)), deleted: [theirs] }), [ours]);
    deepEqual(sync.stored({ set: [], deleted: [ours, theirs] }), [ours]);
    take(sync);
    equal(sync.step(ours, value).do, "delete");
  }
});

Deno.test("a second list puts in doubt what vanished between the two", () => {
  const sync = namespaceSync(), namespace = (name: string) => ({ metadata: { name } });
  take(sync, namespace("a"), namespace("b"));
  const keys = take(sync, namespace("b"), namespace("c"));
  deepEqual(keys.sort(), ["kns.a", "kns.b", "kns.c"].map((name) => resourceKey("Profile", name)));
  equal(sync.step(keys[0]!, profile({})).do, "delete");
});

const endpointKey = resourceKey("WorkloadEndpoint", "n-k8s-p-eth0", "shop");
const endpoint = (ip: string, labels: Record<string, string>): Resource => ({
  ...{ kind: "WorkloadEndpoint", apiVersion },
  metadata: { name: "n-k8s-p-eth0", namespace: "shop", resourceVersion: "5", labels },
  spec: { orchestrator: "k8s", node: "n", pod: "p", endpoint: "eth0", ipNetworks: [`${ip}`] },
});
const pod = (ip: string | undefined, labels: Record<string, string>, more = {}) => ({
  metadata: { name: "p", namespace: "shop", labels },
  spec: { nodeName: "n", ...more },
  status: ip === undefined ? {} : { podIP: ip },
});
const k8s = { "projectcalico.org/namespace": "shop", "projectcalico.org/orchestrator": "k8s" };

Deno.test("labels of a pod replace those of its endpoint; the rest stays", () => {
  const sync = podSync();
  const have = endpoint("10.0.0.1/32", { old: "x", ...k8s });
  deepEqual(sync.stored({ set: [kv(endpointKey, have)], deleted: [] }), [endpointKey]);
  deepEqual(take(sync, pod("10.0.0.1", { a: "b" })), [endpointKey]);
  const step = sync.step(endpointKey, have) as { do: string; resource: Resource };
  deepEqual([step.do, step.resource.metadata.labels], ["update", { a: "b", ...k8s }]);
  equal(sync.step(endpointKey, step.resource).do, "nothing");
  deepEqual(change(sync, pod("10.0.0.1", { a: "c" })), [endpointKey]);
  equal(sync.step(endpointKey, step.resource).do, "update");
});

Deno.test("an endpoint is left alone while its pod is of another address, has none, or is not there", () => {
  const sync = podSync(), have = endpoint("2001:db8::1/128", {});
  sync.stored({ set: [kv(endpointKey, have)], deleted: [] });
  const hostly = { hostNetwork: true };
  for (const given of [pod("2001:db8::2", { a: "b" }), pod(undefined, {}), pod("2001:db8::1", {}, hostly)]) {
    take(sync, given);
    equal(sync.step(endpointKey, have).do, "nothing");
  }
  take(sync);
  equal(sync.step(endpointKey, have).do, "nothing");
  take(sync, pod("2001:0db8:0::1", {}));
  equal(sync.step(endpointKey, have).do, "update");
});

Deno.test("an endpoint that went is forgotten, and found again under its new pod", () => {
  const sync = podSync(), have = endpoint("10.0.0.1/32", {});
  sync.stored({ set: [kv(endpointKey, have)], deleted: [] });
  sync.stored({ set: [], deleted: [endpointKey] });
  deepEqual(take(sync, pod("10.0.0.1", {})), []);
  deepEqual(sync.stored({ set: [kv(endpointKey, have)], deleted: [] }), [endpointKey]);
});

Deno.test("a node gets Kubernetes' labels, loses those that went there, keeps its own", () => {
  const node: Resource = { kind: "Node", apiVersion, metadata: { name: "n", labels: { mine: "yes" } }, spec: {} };
  const first = labelledNode(node, { zone: "z", rack: "r" });
  deepEqual(first.metadata.labels, { mine: "yes", zone: "z", rack: "r" });
  equal(first.metadata.annotations!["projectcalico.org/kube-labels"], '{"rack":"r","zone":"z"}');
  const second = labelledNode(first, { zone: "y" });
  deepEqual(second.metadata.labels, { mine: "yes", zone: "y" });
  equal(labelledNode(second, { zone: "y" }), second);
  const broken = { ...second, metadata: { ...second.metadata, annotations: { "projectcalico.org/kube-labels": "{" } } };
  deepEqual(labelledNode(broken, { zone: "x" }).metadata.labels, { mine: "yes", zone: "x" });
});

Deno.test("a node that a list lacks, or that is deleted there, is stale; one that joins is not", () => {
  const [a, b] = ["a", "b"].map((name) => resourceKey("Node", name)) as [string, string];
  const node = (name: string): Resource => ({
    ...{ kind: "Node", apiVersion, metadata: { name } },
    spec: { orchRefs: [{ nodeName: `${name}.there`, orchestrator: "k8s" }] },
  });
  const there = (name: string) => ({ metadata: { name: `${name}.there` } });
  const stale = { do: "remove node", name: "a", nameThere: "a.there" };
  for (const storedFirst of [true, false]) {
    const sync = nodeSync();
    if (!storedFirst) take(sync, there("b"));
    sync.stored({ set: [kv(a, node("a")), kv(b, node("b"))], deleted: [] });
    if (storedFirst) take(sync, there("b"));
    deepEqual([sync.step(a, node("a")), sync.step(b, node("b")).do], [stale, "nothing"]);
    change(sync, there("a"));
    equal(sync.step(a, node("a")).do, "nothing");
    deepEqual(change(sync, there("a"), true), [a]);
    deepEqual(sync.step(a, node("a")), stale);
    sync.stored({ set: [kv(a, node("a"))], deleted: [] });
    deepEqual(sync.step(a, node("a")), stale, "its agent may still write it");
    sync.stored({ set: [], deleted: [a] });
    sync.stored({ set: [kv(a, node("a"))], deleted: [] });
    equal(sync.step(a, node("a")).do, "nothing", "it joined again, before Kubernetes has it");
  }
});

Deno.test("a node that names none in Kubernetes is left alone", () => {
  const sync = nodeSync(), [known, bare] = ["a", "bare"].map((name) => resourceKey("Node", name)) as [string, string];
  const node = (orchRefs?: unknown): Resource => ({
    kind: "Node",
    apiVersion,
    metadata: { name: "a" },
    spec: { orchRefs },
  });
  const refs = [{ nodeName: "a", orchestrator: "k8s" }];
  deepEqual(sync.stored({ set: [kv(known, node(refs)), kv(bare, node())], deleted: [] }), [known]);
  take(sync, { metadata: { name: "other", labels: { x: "y" } } });
  equal(sync.step(bare, node()).do, "nothing");
  deepEqual(change(sync, { metadata: { name: "a", labels: { x: "y" } } }), [known]);
  equal(sync.step(known, node(refs)).do, "update");
});
