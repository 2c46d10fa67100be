import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { apiVersion, resourcePrefix } from "../datastore/kind.ts";
import type { MemoryStore } from "../datastore/memory.ts";
import { Resources } from "../datastore/resources.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";

/** What a command line printed, on both streams, and its exit code. */
const ctl = (store: MemoryStore, ...args: string[]) => memoryCtl(store, args);

/** A store that holds one network set with a member of a later version, and a policy of Kubernetes'. */
async function filled(): Promise<MemoryStore> {
  const store = new LastingStore();
  const identity = { name: "s", uid: "1", creationTimestamp: "2026-01-02T03:04:05Z" };
  const set = { kind: "GlobalNetworkSet", apiVersion, metadata: identity, spec: { later: 1 } };
  await store.txn({
    compare: [],
    write: [{ put: `${resourcePrefix}globalnetworksets/s`, value: JSON.stringify(set) }],
  });
  const resources = new Resources(store, { clock: new FakeClock(), uuid: () => "u" });
  await resources.create({ kind: "Tier", apiVersion, metadata: { name: "default" }, spec: {} });
  const metadata = { name: "knp.default.a", namespace: "shop" };
  await resources.create({ kind: "NetworkPolicy", apiVersion, metadata, spec: {} });
  return store;
}

Deno.test("a patch may not bring members that nobody knows, and keeps those that are stored", async () => {
  const store = await filled();
  const patch = (text: string) => ctl(store, "patch", "globalnetworkset", "s", "-p", text);
  const wrong = await patch('{"spec": {"nest": []}}');
  assert.equal(wrong.code, 1);
  assert.match(wrong.text, /^field in document is not recognized or is in the wrong location: nest\n/);
  assert.match((await patch('{"kind": "Tier"}')).text, /a patch cannot change kind and apiVersion/);
  assert.match((await patch('{"spec": {"nets": ["x"]}}')).text, /^hit error: updating existing resource: error with/);
  assert.match((await patch('{"spec": {"nets": ["10.0.0.0/8"]}}')).text, /^Successfully patched/);
  const stored = await store.get(`${resourcePrefix}globalnetworksets/s`);
  assert.deepEqual(JSON.parse(stored!.value).spec, { nets: ["10.0.0.0/8"], later: 1 });
});

Deno.test("what Calico keeps in step with Kubernetes is not to be written by hand", async () => {
  const store = await filled();
  for (const args of [["delete"], ["patch", "-p", "{}"], ["label"]]) {
    const [verb, ...flags] = args as [string, ...string[]];
    const label = verb === "label" ? ["a=b"] : [];
    const { code, text } = await ctl(store, verb, "np", "knp.default.a", ...label, ...flags, "-n", "shop");
    assert.equal(code, 1, verb);
    assert.match(text, verb === "label" ? /label not changed/ : /must be managed through the kubernetes API/);
  }
});

Deno.test("columns that the user named are the only ones", async () => {
  const store = await filled();
  const get = async (...args: string[]) => (await ctl(store, "get", "np", ...args)).text.trim().split(/\s+/);
  assert.deepEqual(await get("-A"), ["NAMESPACE", "NAME", "TIER", "shop", "knp.default.a", "default"]);
  assert.deepEqual(await get("-A", "-o", "custom-columns=NAME"), ["NAME", "knp.default.a"]);
  assert.deepEqual(await get("-A", "-o", "custom-columns=NAME,NAMESPACE"), [
    "NAME",
    "NAMESPACE",
    "knp.default.a",
    "shop",
  ]);
});

Deno.test("-o json tells of every object what became of it; a wrong -o is refused before anything is written", async () => {
  const store = await filled();
  const set = (name: string, nets: string[]) =>
    JSON.stringify({ kind: "GlobalNetworkSet", apiVersion, metadata: { name }, spec: { nets } });
  const two = () => Promise.resolve(`[${set("good", ["10.0.0.0/8"])},${set("bad", ["x"])}]`);
  const refused = await memoryCtl(store, ["apply", "-f", "-", "-o", "xml"], { stdin: two });
  assert.deepEqual([refused.code, refused.text], [1, "unrecognized output format 'xml'\n"]);
  assert.equal(await store.get(`${resourcePrefix}globalnetworksets/good`), undefined);
  const { code, text } = await memoryCtl(store, ["apply", "-f", "-", "-o", "json"], { stdin: two });
  const told = JSON.parse(text);
  assert.deepEqual([code, told.total, told.handled, told.done.length, told.failed.length], [1, 2, 1, 1, 1]);
  assert.match(told.failed[0].fields[0].reason, /Nets\[0\] because of Tag: cidr/);
});

Deno.test("what is shown to people in tables is told to programs as JSON", async () => {
  const store = await filled();
  const told = async (...args: string[]) => JSON.parse((await ctl(store, ...args, "-o", "json")).text);
  const resources = new Resources(store, { clock: new FakeClock(), uuid: () => "u" });
  await resources.create({ kind: "IPPool", apiVersion, metadata: { name: "p" }, spec: { cidr: "10.0.0.0/24" } });
  const [pool] = await told("ipam", "show");
  assert.deepEqual([pool.cidr, pool.total, pool.inUse, pool.blocks], ["10.0.0.0/24", 256, 0, []]);
  assert.deepEqual(await told("ipam", "show", "--ip", "10.0.0.7"), { ip: "10.0.0.7", assigned: false });
  assert.deepEqual(await told("ipam", "show", "--show-borrowed"), { borrowed: [], withoutNode: 0 });
  assert.equal((await told("ipam", "show", "--show-configuration")).autoAllocate, true);
  assert.deepEqual((await told("version", "--client")).client, { version: "v0", commit: "c" });
  assert.equal((await told("version")).cluster, null);
  assert.deepEqual(await told("node", "status"), { agent: null, sessions: null });
});
