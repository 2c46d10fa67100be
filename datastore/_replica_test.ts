import assert from "node:assert/strict";
import fc from "fast-check";
import { Folders } from "./_folders.ts";
import { type Change, Replica } from "./_replica.ts";
import { VersionedMap } from "./_versioned_map.ts";
import type { Event, KeyValue } from "./store.ts";

const all = { start: "", end: "\uffff" };

/** What a consumer knows that was told all changes; nothing is told twice, and no key goes back in time. */
class Told {
  readonly values = new Map<string, KeyValue>();
  readonly #newest = new Map<string, bigint>();
  take(changes: Change[]): void {
    for (const [key, kv] of changes) {
      if (kv === undefined) this.values.delete(key);
      else {
        assert.ok(kv.revision > (this.#newest.get(key) ?? 0n), `${key} was told at ${kv.revision} after a newer one`);
        this.#newest.set(key, kv.revision);
        this.values.set(key, kv);
      }
    }
  }
}

/** One thing that happens; `n` chooses keys, places and sizes. */
const step = fc.record({
  does: fc.constantFrom("other writes", "we write", "we write", "learn", "watch", "watch", "list begins", "list ends"),
  n: fc.nat(1000),
});

Deno.test("writes of ours, learned early or late, and any cut of the watch end with the datastore's content", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const server = new VersionedMap(), replica = new Replica(), told = new Told();
      const unlearned: Event[][] = [];
      let began = false; // a replica begins with a list
      let listing: { listed: Folders; revision: bigint } | undefined; // the watch does not run meanwhile
      const beginList = () => {
        listing = { listed: new Folders(), revision: server.revision };
        for (const kv of server.now(all)) listing.listed.set(replica.share(kv));
      };
      const endList = () => {
        if (listing) told.take(replica.replace(listing.listed, listing.revision, false));
        listing = undefined;
        began = true;
      };
      const watch = (revisions: bigint) => {
        const upTo = replica.revision + revisions < server.revision ? replica.revision + revisions : server.revision;
        const events = server.since(replica.revision + 1n).filter((e) => e.revision <= upTo);
        if (began && !listing && events.length > 0) told.take(replica.follow(events, upTo));
      };
      for (const { does, n } of steps) {
        const key = `/k${n % 3}`;
        const writes: [string, string | undefined][] = [[key, n % 2 ? `${does} ${n}` : undefined], [
          `/o${n % 2}`,
          `${n}`,
        ]];
        if (does === "other writes") server.write(writes);
        else if (does === "we write") unlearned.push(server.write(writes));
        else if (does === "learn" && unlearned.length > 0) {
          told.take(replica.learn(unlearned.splice(n % unlearned.length, 1)[0]!));
        } else if (does === "watch") watch(BigInt(n % 4));
        else if (does === "list begins" && !listing) beginList();
        else if (does === "list ends" && listing) endList();
      }
      if (!began && !listing) beginList();
      if (listing) endList();
      watch(server.revision);
      for (const events of unlearned) told.take(replica.learn(events));
      assert.deepEqual(replica.values.list(""), server.now(all));
      assert.deepEqual([...told.values.values()].sort((a, b) => (a.key < b.key ? -1 : 1)), server.now(all));
    }),
    { numRuns: 500 },
  );
});

const put = (key: string, revision: bigint): Event => ({ key, value: `${revision}`, revision, created: revision });
const gone = (key: string, revision: bigint): Event => ({ key, value: undefined, revision, created: 0n });
const foldersOf = (...events: Event[]): Folders => {
  const folders = new Folders();
  for (const e of events) folders.set(e as KeyValue);
  return folders;
};

Deno.test("what we deleted ourselves does not come back by an older event or an older list", () => {
  const replica = new Replica();
  replica.replace(foldersOf(put("/a", 3n)), 5n, false);
  assert.deepEqual(replica.learn([gone("/a", 9n)]), [["/a", undefined]]);
  assert.deepEqual(replica.follow([put("/a", 7n)], 7n), []);
  assert.deepEqual(replica.replace(foldersOf(put("/a", 7n)), 8n, false), []);
  assert.deepEqual(replica.follow([gone("/a", 9n)], 9n), []);
  assert.deepEqual(replica.follow([put("/a", 10n)], 10n).map(([k]) => k), ["/a"]);
});

Deno.test("a list from a restored datastore replaces everything, also what is newer or equal by number", () => {
  const replica = new Replica();
  replica.replace(foldersOf(put("/a", 3n), put("/b", 8n)), 10n, false);
  replica.learn([put("/own", 12n), gone("/a", 13n)]);
  const other: Event = { ...put("/b", 8n), value: "another 8" };
  const changes = replica.replace(foldersOf(put("/a", 3n), other), 9n, true);
  assert.deepEqual(changes.map(([k, v]) => [k, v?.value]), [["/own", undefined], ["/a", "3"], ["/b", "another 8"]]);
  assert.equal(replica.revision, 9n);
});

Deno.test("values that a new list finds unchanged are held once", () => {
  const replica = new Replica();
  const first = foldersOf(put("/a", 3n));
  replica.replace(first, 5n, false);
  assert.equal(replica.share({ key: "/a", value: "3", revision: 3n, created: 3n }), first.get("/a"));
  const newer = { key: "/a", value: "4", revision: 4n, created: 3n };
  assert.equal(replica.share(newer), newer);
});
