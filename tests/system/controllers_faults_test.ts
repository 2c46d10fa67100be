import assert from "node:assert/strict";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";
import type { ApiObject } from "../lab/api_objects.ts";
import { endpoint, endpointKey, inWorld, namespace, objectOf, pod, policy, v3, valueOf } from "./_controllers_world.ts";

const profile = (name: string) => `${v3}/profiles/kns.${name}`;
const answered = (status: number, headers: Record<string, string> = {}) => () => {
  const body = { kind: "Status", status: "Failure", message: `it is ${status}`, code: status };
  return Response.json(body, { status, headers });
};

Deno.test("403, 410, 429 and 500 leave what is known, are told, and lose nothing", () =>
  inWorld(async ({ etcd, api, way, start }) => {
    const port = String(freePorts(1)[0]);
    await api.put(namespace("first"));
    await using instance = await start({ ENABLED_CONTROLLERS: "namespace" }, "--health-port", port).works();
    await wait("the first profile", () => valueOf(etcd, profile("first")));
    for (const status of [403, 410, 429, 500]) {
      const told = () => instance.text.split(`it is ${status}`).length;
      const before = told();
      api.fail(/namespaces/, answered(status, status === 429 ? { "retry-after": "1" } : {}));
      way.takeAway();
      await way.giveBack();
      await api.put(namespace(`during-${status}`));
      await wait(`${status} to be told`, () => told() > before);
      const readiness = await fetch(`http://127.0.0.1:${port}/readiness`);
      assert.match(await readiness.text(), /namespaces: /);
      assert.ok(await valueOf(etcd, profile("first")), `what is known stays at ${status}`);
      api.fail();
      await wait(`what came at ${status}`, () => valueOf(etcd, profile(`during-${status}`)), { deadlineMs: 30_000 });
    }
    await wait("readiness", async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/readiness`);
      return await answer.text() && answer.status === 200;
    });
    // A page that breaks off in the middle.
    api.fail(/namespaces\?limit/, () => new Response('{"items": [{"metadata": {"name": "ha'));
    way.takeAway();
    await api.put(namespace("missed"));
    api.objects.expire();
    await way.giveBack();
    await wait("it to be told", () => /something that is not a JSON object/.test(instance.text), {
      deadlineMs: 30_000,
    });
    api.fail();
    await wait("what was missed", () => valueOf(etcd, profile("missed")), { deadlineMs: 30_000 });
    assert.ok(await valueOf(etcd, profile("first")));
  }));

Deno.test("a certificate of another authority is followed when its file says so, and not before", () =>
  inWorld(async ({ etcd, api, start }) => {
    await using instance = await start({ ENABLED_CONTROLLERS: "namespace" }).works();
    await api.put(namespace("before"));
    await wait("the first profile", () => valueOf(etcd, profile("before")));
    await api.renewCertificate();
    await api.put(namespace("after"));
    await wait("what came after", () => valueOf(etcd, profile("after")), { deadlineMs: 30_000 });
    assert.match(instance.text, /cannot be followed now/);
  }));

Deno.test("a pod that goes and comes again within 100 ms leaves its labels to the endpoint of the second life alone", () =>
  inWorld(async ({ etcd, api, start }) => {
    const born = (ip: string, ...networks: string[]) => ({
      ...endpoint,
      spec: { ...endpoint.spec, containerID: ip, ipNetworks: networks },
    });
    await api.put(pod({ life: "first" }, "192.168.0.7"));
    await etcd.etcdctl("put", endpointKey, JSON.stringify(born("one", "192.168.0.7/32")));
    await using _instance = await start({ ENABLED_CONTROLLERS: "workloadendpoint" }).works();
    const life = async () => (await objectOf(etcd, endpointKey)).metadata.labels.life;
    await wait("the first labels", async () => await life() === "first");
    // The API is ahead of the plugin: the endpoint is still that of the first life.
    await api.delete("pods", "production", "customer");
    await api.put(pod({ life: "second" }, "192.168.0.8"));
    await api.put(pod({ life: "second", more: "yes" }, "192.168.0.8"));
    await api.put(namespace("marker"));
    assert.equal(await life(), "first");
    await etcd.etcdctl("put", endpointKey, JSON.stringify(born("two", "192.168.0.8/32")));
    await wait("the second labels", async () => await life() === "second");
    assert.equal((await objectOf(etcd, endpointKey)).metadata.labels.more, "yes");
  }));

Deno.test("names at their limits, and labels that are legal in Kubernetes, are followed", () =>
  inWorld(async ({ etcd, api, start }) => {
    const long = "n".repeat(63), key = `${"p".repeat(240)}.example/${"k".repeat(63)}`;
    await api.put(namespace(long, { [key]: "v".repeat(63), empty: "" }));
    const account: ApiObject = { kind: "ServiceAccount", metadata: { name: "s".repeat(180), namespace: long } };
    await api.put(account);
    await api.put({ kind: "ServiceAccount", metadata: { name: "t".repeat(253), namespace: long } });
    await using instance = await start({ ENABLED_CONTROLLERS: "namespace,serviceaccount" }).works();
    const made = await wait("the namespace's profile", () => objectOf(etcd, profile(long)));
    assert.equal(made.spec.labelsToApply[`pcns.${key}`], "v".repeat(63));
    await wait("an account's profile", () => valueOf(etcd, `${v3}/profiles/ksa.${long}.${account.metadata.name}`));
    // Kubernetes allows one that no profile can be called by; it is told, and holds nobody up.
    await wait("the other to be told", () => /cannot be brought in order now.*ttttt/.test(instance.text));
    await api.put(namespace("marker"));
    await wait("the marker", () => valueOf(etcd, profile("marker")));
  }));

Deno.test("another writer of the same objects, as Calico's own controllers are, is no endless fight", () =>
  inWorld(async ({ etcd, api, start }) => {
    await using _instance = await start({ ENABLED_CONTROLLERS: "policy,namespace" }).works();
    await api.put(namespace("shared"));
    await api.put(policy("blue", "shared"));
    const key = `${v3}/networkpolicies/shared/knp.default.blue`;
    const stored = await wait("the policy", () => valueOf(etcd, key));
    // What the other writes is the same content, in its own words: another uid, another order of members.
    const { metadata, spec, ...rest } = JSON.parse(stored);
    const theirs = JSON.stringify({ spec, ...rest, metadata: { ...metadata, uid: crypto.randomUUID() } });
    await etcd.etcdctl("put", key, theirs);
    await etcd.etcdctl("del", profile("shared"));
    await wait("the profile to come back", () => valueOf(etcd, profile("shared")));
    assert.equal(await valueOf(etcd, key), theirs, "what is right is not written again");
  }));
