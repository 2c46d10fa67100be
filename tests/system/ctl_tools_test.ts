/** Commands that look longer than once or ask the machine for something: watch, edit, gc, releases by report. */
import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { apiVersion } from "../../datastore/kind.ts";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { blockKey, handleKey } from "../../datastore/keys.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Resources } from "../../datastore/resources.ts";
import { parseCidr } from "../../lib/ip.ts";
import type { Host } from "../../ctl/host.ts";
import { runCtl } from "../../ctl/main.ts";
import type { Surroundings } from "../../ctl/surroundings.ts";
import { wait } from "../lab/wait.ts";

class LastingStore extends MemoryStore {
  override [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** A cluster, its command line, and a machine whose editor and files are ours. */
class World {
  readonly store = new LastingStore();
  readonly clock = new FakeClock();
  readonly resources = new Resources(this.store, { clock: this.clock, uuid: () => "u" });
  readonly files = new Map<string, string>();
  readonly stop = new AbortController();
  text = "";
  /** What the user does to the text in the editor, one for each time that it opens. */
  edits: ((text: string) => string | Promise<string>)[] = [];

  async start(): Promise<this> {
    await ensureInitialized(this.resources, "", () => "0".repeat(32));
    const metadata = { name: "s", labels: { role: "a" } };
    await this.resources.create({ kind: "GlobalNetworkSet", apiVersion, metadata, spec: { nets: ["10.1.0.0/16"] } });
    return this;
  }

  async ctl(...args: string[]): Promise<{ code: number; text: string }> {
    this.text = "";
    return { code: await runCtl(args, this.#surroundings()), text: this.text };
  }

  #surroundings(): Surroundings {
    const print = (more: string) => void (this.text += more);
    const env: Record<string, string> = { DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: "http://etcd:2379", EDITOR: "ed" };
    return {
      program: "calicoctl",
      out: print,
      err: print,
      stdin: () => Promise.resolve(""),
      env: (name) => env[name],
      readFile: (path) => Promise.resolve(this.files.get(path)),
      listFolder: () => Promise.resolve(undefined),
      openStore: () => this.store,
      node: () => Promise.resolve({}),
      host: () => Promise.resolve(this.#host()),
      clock: this.clock,
      uuid: () => "u",
      random: () => 0,
      version: "v0",
      commit: "c",
      screen: false,
      terminal: false,
    };
  }

  #host(): Host {
    return {
      run: () => Promise.resolve(undefined),
      attend: async (_program, args) => {
        const file = args.at(-1)!;
        this.files.set(file, await this.edits.shift()!(this.files.get(file)!));
        return 0;
      },
      writeFile: (path, text) => Promise.resolve(void this.files.set(path, text)),
      temporaryFolder: () => Promise.resolve("/tmp/x"),
      exists: (path) => Promise.resolve(this.files.has(path)),
      isRoot: true,
      interruption: () => this.stop.signal,
    };
  }

  nets = async (): Promise<unknown> => (await this.resources.get("GlobalNetworkSet", "s")).spec.nets;

  async change(nets: string[], labels?: Record<string, string>): Promise<void> {
    const stored = await this.resources.get("GlobalNetworkSet", "s");
    await this.resources.update({ ...stored, metadata: { ...stored.metadata, labels }, spec: { nets } });
  }
}

Deno.test("an edit is stored, and shown as the lines that changed", async () => {
  const world = await new World().start();
  world.edits = [(text) => text.replace("10.1.0.0/16", "10.2.0.0/16")];
  const { code, text } = await world.ctl("edit", "gnetsets", "s");
  assert.equal(code, 0, text);
  assert.match(text, /- {3}- 10\.1\.0\.0\/16\n\+ {3}- 10\.2\.0\.0\/16\n/);
  assert.deepEqual(await world.nets(), ["10.2.0.0/16"]);
});

Deno.test("an edit that is refused opens again with the reason, and can be given up", async () => {
  const world = await new World().start();
  let seen = "";
  world.edits = [(text) => text.replace("10.1.0.0/16", "nonsense"), (text) => seen = text];
  const { code, text } = await world.ctl("edit", "gnetsets", "s");
  assert.equal(code, 1);
  assert.match(seen, /^# error with field Nets\[0\] = 'nonsense'/);
  assert.match(text, /Edit given up/);
  assert.deepEqual(await world.nets(), ["10.1.0.0/16"]);
});

Deno.test("a change of somebody else during an edit is kept, or stands in the editor when it touched the same", async () => {
  const world = await new World().start();
  world.edits = [async (text) => {
    await world.change(["10.1.0.0/16"], { role: "b" });
    return text.replace("10.1.0.0/16", "10.3.0.0/16");
  }];
  assert.equal((await world.ctl("edit", "gnetsets", "s")).code, 0);
  const stored = await world.resources.get("GlobalNetworkSet", "s");
  assert.deepEqual([stored.spec.nets, stored.metadata.labels], [["10.3.0.0/16"], { role: "b" }]);
  let seen = "";
  world.edits = [async (text) => {
    await world.change(["10.9.0.0/16"]);
    return text.replace("10.3.0.0/16", "10.4.0.0/16");
  }, (text) => seen = text];
  assert.equal((await world.ctl("edit", "gnetsets", "s")).code, 1);
  assert.match(seen, /# Somebody else changed spec\.nets meanwhile/);
  assert.deepEqual(await world.nets(), ["10.9.0.0/16"]);
});

Deno.test("a watch shows what is there, then each change as one more row, deletes too, until it is stopped", async () => {
  const world = await new World().start();
  const done = world.ctl("get", "gnetsets", "-w", "-o", "wide", "--selector", "has(role)");
  const seen = (what: RegExp) => wait(`a text like ${what}`, () => what.test(world.text), { everyMs: 1 });
  await seen(/10\.1\.0\.0\/16/);
  await world.change(["10.5.0.0/16"], { role: "a" });
  await seen(/s +10\.5\.0\.0\/16\n/);
  await world.change(["10.6.0.0/16"], {});
  await seen(/s +10\.5\.0\.0\/16 +\(deleted\)\n$/);
  world.stop.abort();
  assert.equal((await done).code, 0);
});

Deno.test("gc names what it would release and releases nothing on a dry run; reports release what they say", async () => {
  const world = await new World().start();
  const cidr = parseCidr("10.65.3.64/31");
  const attributes = [{ handle_id: "h", secondary: { node: "n9", pod: "web-1", namespace: "shop" } }];
  const block = { cidr: "10.65.3.64/31", affinity: "host:n1", allocations: [null, 0], unallocated: [0], attributes };
  const value = JSON.stringify({ ...block, sequenceNumber: 5, sequenceNumberForAllocation: { "1": 3 } });
  await world.store.txn({
    compare: [],
    write: [{ put: blockKey(cidr), value }, { put: handleKey("idle"), value: `{"block":{}}` }],
  });
  const dry = await world.ctl("ipam", "gc", "--dry-run");
  assert.match(
    dry.text,
    /10\.65\.3\.65 +n9 +h +no workload endpoint of pod shop\/web-1 has it, and node n9 does not exist/,
  );
  await world.ctl("datastore", "migrate", "lock");
  await world.ctl("ipam", "check", "-o", "/r.json");
  const released = await world.ctl("ipam", "release", "--from-report", "/r.json");
  assert.match(released.text, /Released 1 IPs successfully\n[^]*Released 1 handles; 0 skipped; 0 errors\.\n/);
  assert.equal(await world.store.get(handleKey("idle")), undefined);
  assert.doesNotMatch((await world.ctl("ipam", "gc", "--dry-run")).text, /10\.65/);
  world.files.set("/other.json", world.files.get("/r.json")!.replace(/"clusterGUID": "0/, '"clusterGUID": "1'));
  assert.match((await world.ctl("ipam", "release", "--from-report", "/other.json")).text, /mismatched cluster GUID/);
});
