import assert from "node:assert/strict";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";
import {
  account,
  endpoint,
  endpointKey,
  giveAddress,
  inWorld,
  namespace,
  objectOf,
  pod,
  policy,
  resourcesOf,
  revisionOf,
  v3,
  valueOf,
} from "./_controllers_world.ts";

Deno.test("policies, profiles and labels follow Kubernetes: at the start, live, and without a write after a restart", () =>
  inWorld(async ({ etcd, api, start }) => {
    for (const ns of ["production", "old"]) await api.put(namespace(ns, { team: "bank" }));
    await api.put(account("summary", "production"));
    await api.put(policy("blue-policy", "production"));
    await api.put(pod({ app: "customer", tier: "web" }, "192.168.0.7"));
    await api.put({ kind: "Node", metadata: { name: "node-a", labels: { rack: "r1" } } });
    const node = {
      ...{ kind: "Node", apiVersion: "projectcalico.org/v3" },
      metadata: {
        ...{ name: "node-a", uid: "9ae6cf4a-9ac1-4d35-9ca0-1d3aa8d5d0a1", creationTimestamp: "2026-11-21T08:18:07Z" },
        labels: { mine: "yes" },
      },
      spec: { bgp: { ipv4Address: "10.0.0.1/24" }, orchRefs: [{ nodeName: "node-a", orchestrator: "k8s" }] },
    };
    await etcd.etcdctl("put", `${v3}/nodes/node-a`, JSON.stringify(node));
    await etcd.etcdctl("put", endpointKey, JSON.stringify(endpoint));
    const foreign = { ...node, kind: "Profile", metadata: { ...node.metadata, name: "kns.foreign" }, spec: {} };
    await etcd.etcdctl("put", `${v3}/profiles/kns.foreign`, JSON.stringify(foreign));
    const theirs = { ...foreign, metadata: { ...foreign.metadata, name: "theirs" } };
    await etcd.etcdctl("put", `${v3}/profiles/theirs`, JSON.stringify(theirs));

    const blue = `${v3}/networkpolicies/production/knp.default.blue-policy`;
    await using first = await start().works();
    await wait("the policy", () => valueOf(etcd, blue));
    await wait("the foreign profile to go", async () => !await valueOf(etcd, `${v3}/profiles/kns.foreign`));
    assert.ok(await valueOf(etcd, `${v3}/profiles/theirs`));
    const stored = await objectOf(etcd, blue);
    assert.deepEqual(stored.metadata.annotations, {
      "projectcalico.org/metadata": '{"name":"knp.default.blue-policy"}',
    });
    assert.deepEqual(stored.metadata.labels, { "projectcalico.org/tier": "default" });
    assert.deepEqual(stored.spec, {
      ...{ tier: "default", order: 1000 },
      ingress: [{
        ...{ action: "Allow", protocol: "TCP", destination: { ports: [80] } },
        source: { selector: "projectcalico.org/orchestrator == 'k8s' && color == 'red'" },
      }],
      ...{ selector: "projectcalico.org/orchestrator == 'k8s' && color == 'blue'", types: ["Ingress"] },
    });
    const profile = await wait("the namespace's profile", () => objectOf(etcd, `${v3}/profiles/kns.production`));
    assert.equal(profile.spec.labelsToApply["pcns.team"], "bank");
    const ofAccount = await wait(
      "the account's profile",
      () => objectOf(etcd, `${v3}/profiles/ksa.production.summary`),
    );
    assert.deepEqual(ofAccount.spec, {
      labelsToApply: { "pcsa.app": "summary", "pcsa.projectcalico.org/name": "summary" },
    });
    const labels = await wait("the pod's labels", async () => {
      const { metadata } = await objectOf(etcd, endpointKey);
      return metadata.labels.tier && metadata.labels;
    });
    const added = { "projectcalico.org/namespace": "production", "projectcalico.org/orchestrator": "k8s" };
    assert.deepEqual(labels, { app: "customer", tier: "web", ...added, "projectcalico.org/serviceaccount": "summary" });
    assert.equal((await objectOf(etcd, endpointKey)).spec.unknown, "stays");
    const nodeLabels = () => objectOf(etcd, `${v3}/nodes/node-a`).then(({ metadata }) => metadata);
    await wait("the node's label", async () => (await nodeLabels()).labels.rack === "r1");
    assert.equal((await nodeLabels()).labels.mine, "yes");
    assert.equal((await nodeLabels()).annotations["projectcalico.org/kube-labels"], '{"rack":"r1"}');

    // Live: a change each.
    const began = performance.now();
    await api.put(pod({ app: "customer", color: "red" }, "192.168.0.7"));
    await wait("the new label", async () => (await objectOf(etcd, endpointKey)).metadata.labels.color === "red");
    const ms = performance.now() - began;
    assert.ok(ms < 2_000, `a label took ${ms} ms`);
    console.log(`pod label in etcd, seen by etcdctl, after ${Math.round(ms)} ms`);
    await api.put(policy("blue-policy", "production", "green"));
    await wait("the changed policy", async () => /green/.test((await objectOf(etcd, blue)).spec.selector));
    await api.put({ kind: "Node", metadata: { name: "node-a", labels: { zone: "z" } } });
    await wait("the node's labels", async () => (await nodeLabels()).labels.zone === "z");
    assert.deepEqual((await nodeLabels()).labels, { mine: "yes", zone: "z" });
    await api.delete("namespaces", undefined, "old");
    await wait("the profile to go", async () => !await valueOf(etcd, `${v3}/profiles/kns.old`));
    await api.delete("networkpolicies", "production", "blue-policy");
    await wait("the policy to go", async () => !await valueOf(etcd, blue));

    // What somebody else spoils is put back; his labels stay.
    const spoilt = await objectOf(etcd, `${v3}/profiles/kns.production`);
    spoilt.spec.labelsToApply = {};
    spoilt.metadata.labels = { note: "mine" };
    await etcd.etcdctl("put", `${v3}/profiles/kns.production`, JSON.stringify(spoilt));
    const repaired = await wait("the repair", async () => {
      const now = await objectOf(etcd, `${v3}/profiles/kns.production`);
      return now.spec.labelsToApply["pcns.team"] && now;
    });
    assert.deepEqual(repaired.metadata.labels, { note: "mine" });
    await etcd.etcdctl("put", `${v3}/profiles/kns.production`, "{not json");
    await wait("an unreadable value to be replaced", async () => {
      return (await objectOf(etcd, `${v3}/profiles/kns.production`)).spec.labelsToApply["pcns.team"];
    });

    assert.equal(await first.end("SIGTERM"), 0);
    assert.equal(await valueOf(etcd, "/tortie/locks/controllers"), undefined);
    const before = await resourcesOf(etcd);
    await using second = await start().works();
    await api.put(namespace("marker"));
    await wait("the marker", () => valueOf(etcd, `${v3}/profiles/kns.marker`));
    await wait("all lists", () => (second.text.match(/"listed"/g) ?? []).length === 9);
    assert.deepEqual((await resourcesOf(etcd)).filter((line) => !line.includes("kns.marker")), before);
  }));

Deno.test("a node that goes in Kubernetes goes with its endpoints; others stay", () =>
  inWorld(async ({ etcd, api, start }) => {
    const node = (name: string, orchRefs?: unknown[]) => ({
      ...{ kind: "Node", apiVersion: "projectcalico.org/v3" },
      metadata: { name, uid: endpoint.metadata.uid, creationTimestamp: endpoint.metadata.creationTimestamp },
      spec: { bgp: { ipv4Address: "10.0.0.1/24" }, orchRefs },
    });
    for (const name of ["node-a", "node-b", "node-gone"]) {
      const known = node(name, [{ nodeName: `${name}.there`, orchestrator: "k8s" }]);
      await etcd.etcdctl("put", `${v3}/nodes/${name}`, JSON.stringify(known));
    }
    await etcd.etcdctl("put", `${v3}/nodes/bare-1`, JSON.stringify(node("bare-1")));
    await etcd.etcdctl("put", endpointKey, JSON.stringify(endpoint));
    await giveAddress(etcd);
    for (const name of ["node-a", "node-b"]) await api.put({ kind: "Node", metadata: { name: `${name}.there` } });
    const names = async () =>
      [...(await etcd.dump(`${v3}/nodes/`)).keys()].map((key) => key.slice(key.lastIndexOf("/") + 1)).sort();

    await using instance = await start().works();
    await wait("the stale node to go", async () => !(await names()).includes("node-gone"));
    assert.deepEqual(await names(), ["bare-1", "node-a", "node-b"]);
    await api.delete("nodes", undefined, "node-a.there");
    await wait("the deleted node to go", async () => !(await names()).includes("node-a")).catch((error) => {
      throw new Error(`${error.message}\n${instance.text}`);
    });
    assert.deepEqual(await names(), ["bare-1", "node-b"]);
    assert.equal(await valueOf(etcd, endpointKey), undefined);
    assert.deepEqual([...(await etcd.dump("/calico/ipam/")).keys()], [], "addresses, handles and blocks go, too");
  }));

Deno.test("a token that is renewed in its file is used at once; until then what is known stays", () =>
  inWorld(async ({ etcd, api, way, tokenFile, start }) => {
    const port = String(freePorts(1)[0]);
    await using instance = await start({ ENABLED_CONTROLLERS: "namespace" }, "--health-port", port).works();
    const ready = (status: number) =>
      wait(`readiness ${status}`, async () => {
        const answer = await fetch(`http://127.0.0.1:${port}/readiness`);
        return await answer.text() && answer.status === status;
      });
    await api.put(namespace("a"));
    await wait("the first profile", () => valueOf(etcd, `${v3}/profiles/kns.a`));
    await ready(200);
    api.accept("renewed");
    way.takeAway();
    await way.giveBack();
    await api.put(namespace("b"));
    await wait("the refusal to be told", () => /refuses: Unauthorized/.test(instance.text));
    await ready(503);
    assert.ok(await valueOf(etcd, `${v3}/profiles/kns.a`));
    await Deno.writeTextFile(tokenFile, "renewed\n");
    await wait("what was missed", () => valueOf(etcd, `${v3}/profiles/kns.b`));
    await ready(200);
  }));

Deno.test("an API server that goes away or forgets its history loses nothing", () =>
  inWorld(async ({ etcd, api, way, start }) => {
    await api.put(namespace("a"));
    await using instance = await start({ ENABLED_CONTROLLERS: "namespace,policy" }).works();
    const has = (name: string) => valueOf(etcd, `${v3}/profiles/kns.${name}`);
    await wait("the first profile", () => has("a"));

    way.takeAway();
    await api.put(namespace("b"));
    await api.delete("namespaces", undefined, "a");
    await wait("the loss to be told", () => instance.text.includes("cannot be followed now"));
    assert.ok(await has("a"), "what is known stays");
    await way.giveBack();
    await wait("what was missed", () => has("b"));
    await wait("what went meanwhile", async () => !await has("a"));
    const listed = () => api.requests.filter((line) => /(namespaces|\/networkpolicies)\?limit=/.test(line)).length;
    assert.equal(listed(), 2, "a watch goes on where it was");

    way.takeAway();
    await api.put(namespace("c"));
    await api.delete("namespaces", undefined, "b");
    api.objects.expire();
    await way.giveBack();
    await wait("what came before the history", () => has("c"));
    await wait("what went before the history", async () => !await has("b"));
    assert.ok(listed() > 2, "410 lists again");
  }));

Deno.test("a second instance waits, and takes over when the first is killed", () =>
  inWorld(async ({ etcd, api, start }) => {
    await using first = await start({ ENABLED_CONTROLLERS: "namespace" }).works();
    await using second = start({ ENABLED_CONTROLLERS: "namespace" });
    await wait("the second to wait", () => second.text.includes("another instance works"));
    await wait("the second to be warm", () => second.text.includes('"listed"'));
    const revision = await revisionOf(etcd);
    await first.end("SIGKILL");
    await api.put(namespace("late"));
    const began = performance.now();
    await wait("the profile", () => valueOf(etcd, `${v3}/profiles/kns.late`), { deadlineMs: 20_000 });
    console.log(`taken over after ${Math.round(performance.now() - began)} ms`);
    assert.ok(await revisionOf(etcd) > revision);
  }));

Deno.test("etcd away: what changed meanwhile is written when it is back", () =>
  inWorld(async ({ etcd, api, start }) => {
    await using _instance = await start({ ENABLED_CONTROLLERS: "namespace" }).works();
    await api.put(namespace("a"));
    await wait("the first profile", () => valueOf(etcd, `${v3}/profiles/kns.a`));
    await etcd.kill();
    await api.put(namespace("b"));
    await api.delete("namespaces", undefined, "a");
    await etcd.restart();
    await wait("the new profile", () => valueOf(etcd, `${v3}/profiles/kns.b`), { deadlineMs: 20_000 });
    await wait("the old one to go", async () => !await valueOf(etcd, `${v3}/profiles/kns.a`), { deadlineMs: 20_000 });
  }));
