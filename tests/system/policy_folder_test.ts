/** Files of policies of a node: what they bring, what stays when one is broken, what goes with them. */
import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { runOk } from "../../lib/process.ts";
import { silentLog } from "../../lib/log.ts";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { kindPrefix } from "../../datastore/keys.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Resources } from "../../datastore/resources.ts";
import { prefixRange } from "../../datastore/store.ts";
import { PolicyFolder } from "../../node/policies/folder.ts";
import { filesPrefix } from "../../node/policies/owned.ts";
import { passOver } from "../../node/policies/pass.ts";

const api = `apiVersion: ${apiVersion}`;
const set = (name: string, net: string) =>
  `${api}\nkind: GlobalNetworkSet\nmetadata: {name: ${name}}\nspec:\n  nets:\n  - ${net}\n`;
const tier = `${api}\nkind: Tier\nmetadata: {name: web}\nspec: {order: 10}\n`;
const policy = `${api}\nkind: GlobalNetworkPolicy\nmetadata: {name: web.p}\nspec: {tier: web, selector: all()}\n`;

/** A node with an empty folder, over a store that others share. */
async function makeNode(store = new MemoryStore(), node = "n1") {
  const path = await Deno.makeTempDir({ prefix: "pr-policies-" }), state = `${path}.state`;
  const resources = new Resources(store, { clock: new FakeClock() });
  await ensureInitialized(resources, "", () => "u");
  const signature = () => ({ by: { user: "tortie", host: node }, at: "2026-01-02T03:04:05Z" });
  const parts = () => ({ store, node, folder: new PolicyFolder(path, state), log: silentLog, signature });
  return {
    ...{ store, resources, path, state },
    write: (name: string, ...documents: string[]) => Deno.writeTextFile(`${path}/${name}`, documents.join("---\n")),
    remove: (name: string) => Deno.remove(`${path}/${name}`),
    rename: (from: string, to: string) => Deno.rename(`${path}/${from}`, `${path}/${to}`),
    /** Passes until it settles; what is wrong then. */
    async pass(): Promise<string[]> {
      for (let i = 0; i < 6; i++) {
        const { problems, again } = await passOver(parts());
        if (!again) return problems;
      }
      return ["it does not settle"];
    },
    async nets(): Promise<string> {
      const { items } = await resources.list("GlobalNetworkSet");
      return items.map((s) => `${s.metadata.name} ${(s.spec.nets as string[]).join()}`).join("; ");
    },
    async [Symbol.asyncDispose]() {
      for (const folder of [path, state]) await Deno.remove(folder, { recursive: true }).catch(() => {});
    },
  };
}

Deno.test("files bring their objects, changed files change them, files that go take them along and nothing else", async () => {
  await using node = await makeNode();
  const { write, remove, pass, nets, store } = node;
  await node.resources.create(object("others", "172.16.0.0/12"));
  await write("a.yaml", set("a", "10.0.0.0/8"), set("b", "10.1.0.0/16"));
  await write("c.json", JSON.stringify({ ...object("c", "10.2.0.0/16") }));
  await write("notes.txt", "no policy");
  await write(".hidden.yaml", set("hidden", "10.0.0.0/8"));
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "a 10.0.0.0/8; b 10.1.0.0/16; c 10.2.0.0/16; others 172.16.0.0/12");
  const { revision } = await store.status();
  assert.deepEqual(await pass(), []);
  assert.equal((await store.status()).revision, revision, "nothing changed, nothing is written");
  await write("a.yaml", set("a", "10.0.0.0/9"));
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "a 10.0.0.0/9; c 10.2.0.0/16; others 172.16.0.0/12");
  await remove("a.yaml");
  await remove("c.json");
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "others 172.16.0.0/12");
  assert.deepEqual([...store.contents().keys()].filter((k) => k.startsWith(filesPrefix)), []);
  assert.deepEqual([...Deno.readDirSync(node.state)], []);
});

const object = (name: string, net: string): Resource => ({
  ...{ apiVersion, kind: "GlobalNetworkSet", metadata: { name } },
  spec: { nets: [net] },
});

Deno.test("a broken file is told with file, document and line; its last good version stays, the others' changes apply", async () => {
  await using node = await makeNode();
  const { write, pass, nets } = node;
  await write("a.yaml", set("a", "10.0.0.0/8"));
  await write("b.yaml", set("b", "10.0.0.0/8"));
  assert.deepEqual(await pass(), []);
  const broken: [string, RegExp][] = [
    [`${set("a", "10.0.0.0/9")}---\n\n${set("x", "nonsense")}`, /^a\.yaml, document 2, line 14: .*nonsense/],
    [
      `${set("a", "10.0.0.0/9")}---\n${set("x", "10.0.0.0/8").replace("nets", "netz")}`,
      /^a\.yaml, document 2, line 12: .*did you mean "nets"/,
    ],
    [`${set("a", "10.0.0.0/9")}  - [\n`, /^a\.yaml, document 1, line \d+: .*yaml/],
    [`${set("a", "10.0.0.0/9")}---\nkind: Nonsense\n`, /^a\.yaml, document 2, line 8: unknown resource type/],
    [`${set("a", "10.0.0.0/9")}---\n${set("a", "10.0.0.0/10")}`, /^a\.yaml, document 2, line 8: .*twice/],
    [`${set("a", "10.0.0.0/9")}---\n${policy}`, /^a\.yaml, document 2, line 8: .*[Tt]ier/],
    ["\0\xff", /^a\.yaml, document 1, line 1: /],
  ];
  for (const [i, [text, told]] of broken.entries()) {
    await write("a.yaml", text);
    await write("b.yaml", set("b", `10.${i}.0.0/16`));
    const problems = await pass();
    assert.equal(problems.length, 1, problems.join("\n"));
    assert.match(problems[0]!, told);
    assert.equal(await nets(), `a 10.0.0.0/8; b 10.${i}.0.0/16`);
  }
  await write("a.yaml", set("a", "10.0.0.0/9"));
  assert.deepEqual(await pass(), []);
  assert.match(await nets(), /^a 10\.0\.0\.0\/9/);
});

Deno.test("whatever lies in the folder, the rest of it is read", async () => {
  await using node = await makeNode();
  const { write, pass, nets, path } = node;
  await Deno.mkdir(`${path}/folder.yaml`);
  await runOk("mkfifo", [`${path}/pipe.yaml`]);
  await Deno.symlink("/nowhere", `${path}/link.yaml`);
  await Deno.writeFile(`${path}/large.yaml`, new Uint8Array(11 << 20));
  await Deno.writeFile(`${path}/bytes.yaml`, crypto.getRandomValues(new Uint8Array(2_000)));
  await write("empty.yaml", "");
  await write("comments.yaml", "# nothing\n---\n# yet\n");
  await write("z.yaml", set("z", "10.0.0.0/8"));
  const problems = (await pass()).map((p) => p.replace(/, document.*/, ""));
  assert.deepEqual([...new Set(problems)], ["bytes.yaml", "folder.yaml", "large.yaml", "link.yaml", "pipe.yaml"]);
  assert.equal(await nets(), "z 10.0.0.0/8");
});

Deno.test("the last good version of a broken file is brought to a new datastore; without one nothing is taken away", async () => {
  await using first = await makeNode();
  await first.write("a.yaml", set("a", "10.0.0.0/8"));
  assert.deepEqual(await first.pass(), []);
  await first.write("a.yaml", "broken: [");
  first.store.restore({ revision: 1n, values: new Map() });
  await ensureInitialized(first.resources, "", () => "u");
  assert.equal((await first.pass()).length, 1);
  assert.equal(await first.nets(), "a 10.0.0.0/8");
  await Deno.remove(first.state, { recursive: true });
  assert.equal((await first.pass()).length, 1);
  assert.equal(await first.nets(), "a 10.0.0.0/8");
  await Deno.remove(first.path, { recursive: true });
  assert.deepEqual(await first.pass(), []);
  assert.equal(await first.nets(), "a 10.0.0.0/8", "a folder that is not there says nothing");
});

Deno.test("what others made, changed or deleted is left and named, until the file says something new of it", async () => {
  await using node = await makeNode();
  const { write, remove, pass, nets, resources } = node;
  await resources.create(object("theirs", "172.16.0.0/12"));
  await write("a.yaml", set("a", "10.0.0.0/8"), set("theirs", "10.0.0.0/8"), set("z", "10.0.0.0/8"));
  assert.deepEqual(await pass(), ["a.yaml: GlobalNetworkSet(theirs): somebody else made it"]);
  await resources.apply(object("a", "192.168.0.0/16"));
  await resources.delete("GlobalNetworkSet", "z");
  assert.deepEqual((await pass()).slice().sort(), [
    "a.yaml: GlobalNetworkSet(a): somebody else changed it",
    "a.yaml: GlobalNetworkSet(theirs): somebody else made it",
    "a.yaml: GlobalNetworkSet(z): somebody deleted it",
  ]);
  assert.equal(await nets(), "a 192.168.0.0/16; theirs 172.16.0.0/12");
  await write("a.yaml", set("a", "10.3.0.0/16"), set("z", "10.3.0.0/16"));
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "a 10.3.0.0/16; theirs 172.16.0.0/12; z 10.3.0.0/16");
  await remove("a.yaml");
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "theirs 172.16.0.0/12");
});

Deno.test("an object moves with its file's name, or to another file, without being gone for a moment", async () => {
  await using node = await makeNode();
  const { write, rename, pass, nets, store } = node;
  await write("m.yaml", set("a", "10.0.0.0/8"), set("b", "10.0.0.0/8"));
  assert.deepEqual(await pass(), []);
  const { revision } = await store.status();
  await rename("m.yaml", "z.yaml");
  assert.deepEqual(await pass(), []);
  await rename("z.yaml", "a.yaml");
  assert.deepEqual(await pass(), []);
  await write("a.yaml", set("a", "10.0.0.0/8"));
  await write("n.yaml", set("b", "10.0.0.0/8"));
  assert.deepEqual(await pass(), []);
  assert.equal(await nets(), "a 10.0.0.0/8; b 10.0.0.0/8");
  const { values } = await store.read([prefixRange(kindPrefix("GlobalNetworkSet"))]);
  assert.deepEqual([...values.values()].map((kv) => kv.revision <= revision), [true, true]);
});

Deno.test("two files that say the same object: the first has it, the other is told; two nodes may say the same", async () => {
  await using one = await makeNode();
  await one.write("a.yaml", set("a", "10.0.0.0/8"));
  await one.write("b.yaml", set("a", "10.1.0.0/16"));
  assert.deepEqual(await one.pass(), ["b.yaml: GlobalNetworkSet(a): a.yaml brought it, too"]);
  await one.remove("b.yaml");
  await using two = await makeNode(one.store, "n2");
  await two.write("a.yaml", set("a", "10.0.0.0/8"));
  assert.deepEqual([await one.pass(), await two.pass()], [[], []]);
  await one.remove("a.yaml");
  assert.deepEqual(await one.pass(), []);
  assert.equal(await two.nets(), "a 10.0.0.0/8", "the other node's file still brings it");
  await two.remove("a.yaml");
  assert.deepEqual(await two.pass(), []);
  assert.equal(await two.nets(), "");
});

Deno.test("a policy waits for its tier in another file, and both go together", async () => {
  await using node = await makeNode();
  const { write, remove, pass, resources } = node;
  await write("a.yaml", policy);
  assert.match((await pass()).join(), /a\.yaml, document 1, line 1: .*[Tt]ier/);
  await write("b.yaml", tier);
  assert.deepEqual(await pass(), []);
  await resources.get("GlobalNetworkPolicy", "web.p");
  await remove("b.yaml");
  assert.match((await pass()).join(), /^b\.yaml: Tier\(web\) stays: /);
  await remove("a.yaml");
  assert.deepEqual(await pass(), []);
  assert.ok((await resources.list("Tier")).items.every((t) => t.metadata.name !== "web"));
});
