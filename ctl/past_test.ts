import assert from "node:assert/strict";
import { parseJson } from "../lib/json64.ts";
import { apiVersion, type Resource } from "../datastore/kind.ts";
import { Resources } from "../datastore/resources.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";

const author = () => ({ user: "ann", host: "n1", from: "203.0.113.7", command: "ctl apply -f web.yaml" });

function makeWorld() {
  const store = new LastingStore();
  const others = new Resources(store);
  const ctl = async (code: number, ...args: string[]) => {
    const done = await memoryCtl(store, args, { author });
    assert.equal(done.code, code, `${args.join(" ")}: ${done.text}`);
    return done.text;
  };
  const apply = (nets: string[]) =>
    memoryCtl(store, ["apply", "-f", "-"], {
      author,
      stdin: () =>
        Promise.resolve(
          JSON.stringify({ kind: "GlobalNetworkSet", apiVersion, metadata: { name: "a" }, spec: { nets } }),
        ),
    });
  const nets = async () => (await others.get("GlobalNetworkSet", "a")).spec.nets;
  return { others, ctl, apply, nets };
}

Deno.test("history tells who changed what, and rollback brings each state back, and itself leaves a line", async () => {
  const { ctl, apply, nets } = makeWorld();
  await apply(["10.0.0.0/8"]);
  await apply(["10.0.0.0/9"]);
  const table = await ctl(0, "history", "globalnetworkset", "a");
  assert.match(table, /^NO +TIME +CHANGE +BY +REVISION +COMMAND *\n/);
  assert.match(
    table,
    /\n2 +2026-01-02T03:04:05Z +changed +ann@n1 \(from 203\.0\.113\.7\) +\d+ +ctl apply -f web\.yaml/,
  );
  const changes = await ctl(0, "history", "globalnetworkset", "a", "--diff");
  assert.match(changes, /2 {2}2026\S+ {2}changed by ann@n1[^]*- {3}- 10\.0\.0\.0\/8\n\+ {3}- 10\.0\.0\.0\/9/);
  assert.match(await ctl(0, "rollback", "globalnetworkset", "a", "--dry-run"), /\+ {3}- 10\.0\.0\.0\/8/);
  assert.deepEqual(await nets(), ["10.0.0.0/9"], "a dry run writes nothing");
  assert.match(await ctl(0, "rollback", "globalnetworkset", "a"), /Successfully brought back state 1 of Glob/);
  assert.deepEqual(await nets(), ["10.0.0.0/8"]);
  await ctl(0, "rollback", "globalnetworkset", "a", "--to", "2");
  assert.deepEqual(await nets(), ["10.0.0.0/9"]);
  assert.match(await ctl(0, "rollback", "globalnetworkset", "a", "--to", "2"), /nothing to do/);
  const told = parseJson(await ctl(0, "history", "globalnetworkset", "a", "-o", "json")) as { states: unknown[] };
  assert.equal(told.states.length, 4);
});

Deno.test("rollback makes a deleted object again, and deletes one that was just made", async () => {
  const { ctl, apply, nets } = makeWorld();
  await apply(["10.0.0.0/8"]);
  await ctl(0, "delete", "globalnetworkset", "a");
  await ctl(0, "rollback", "globalnetworkset", "a");
  assert.deepEqual(await nets(), ["10.0.0.0/8"]);
  await ctl(0, "rollback", "globalnetworkset", "a", "--to", "0");
  assert.match(await ctl(1, "get", "globalnetworkset", "a"), /does not exist/);
});

Deno.test("what others changed is a line without a name, and can be taken back as well", async () => {
  const { others, ctl, apply, nets } = makeWorld();
  await apply(["10.0.0.0/8"]);
  const { resource } = await others.apply<Resource>({
    kind: "GlobalNetworkSet",
    apiVersion,
    metadata: { name: "a" },
    spec: { nets: ["10.1.0.0/16"] },
  });
  const table = await ctl(0, "history", "globalnetworkset", "a");
  assert.match(
    table,
    new RegExp(`\\n2 +unknown +changed +others, who keep no history +${resource.metadata.resourceVersion} `),
  );
  await ctl(0, "rollback", "globalnetworkset", "a");
  assert.deepEqual(await nets(), ["10.0.0.0/8"]);
});

Deno.test("what cannot be brought back is refused with what there is", async () => {
  const { others, ctl, apply } = makeWorld();
  assert.match(await ctl(1, "history", "globalnetworkset", "a"), /does not exist, and nothing is known of its past/);
  await apply(["10.0.0.0/8"]);
  assert.match(await ctl(1, "rollback", "globalnetworkset", "a", "--to", "9"), /has no state 9.*Its history has 0, 1/);
  assert.match(await ctl(1, "rollback", "globalnetworkset", "a", "--to", "x"), /x is no number/);
  const tier = { kind: "Tier", apiVersion, metadata: { name: "t" }, spec: {} } as const;
  const { metadata } = await others.create(tier);
  await others.update({ ...tier, metadata, spec: { order: 5 } });
  assert.match(await ctl(1, "rollback", "tier", "t"), /nothing is known of Tier\(t\) before its last change/);
});
