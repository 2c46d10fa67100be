/** Changes that nobody confirms, on a real etcd: many objects, many guards, an etcd that dies while the fuse burns. */
import assert from "node:assert/strict";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { apiVersion } from "../../datastore/kind.ts";
import { kindPrefix } from "../../datastore/keys.ts";
import { commitPending, guardPrefix, lastUndoneKey, pendingPrefix, readPending } from "../../datastore/pending.ts";
import { Rehearsal } from "../../datastore/rehearsal.ts";
import { Resources } from "../../datastore/resources.ts";
import { mostObjects } from "../../datastore/commit.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { guardPending } from "../../node/pending_guard.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { wait } from "../lab/wait.ts";

/** grpc-js lets the timer of its next attempt run out (1 s) after a channel is closed that could not connect. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

const open = (etcd: Etcd) =>
  openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 2_000 }, { clock: systemClock, log: silentLog });

for (const server of ["etcd", "store"] as const) {
  Deno.test(
    `${server}: as many objects as one change may have come, and go once, though etcd is killed meanwhile`,
    withLateTimer,
    async () => {
      await using etcd = await startEtcd({ server });
      await using store = open(etcd);
      await ensureInitialized(new Resources(store), "", () => crypto.randomUUID());
      const lines: string[] = [], stop = new AbortController();
      const log = createLog("guard", { write: (line) => void lines.push(line) });
      const stores = ["n1", "n2", "n3"].map((node) => ({ node, store: open(etcd) }));
      const guards = stores.map((s) => guardPending({ ...s, clock: systemClock, log, signal: stop.signal }));
      try {
        await wait("the guards", async () => (await etcd.dump(guardPrefix)).size === 3);
        const rehearsal = await Rehearsal.of(store, {});
        for (let i = 0; i < mostObjects; i++) {
          const spec = { tier: "default", order: i, selector: "all()" };
          await rehearsal.resources.apply({
            kind: "GlobalNetworkPolicy",
            apiVersion,
            metadata: { name: `p${i}` },
            spec,
          });
        }
        const parts = { id: "x", at: "2026-01-02T03:04:05Z", by: { user: "ann", host: "n1" }, seconds: 5 };
        await commitPending(store, rehearsal, parts);
        const policies = async () => (await etcd.dump(kindPrefix("GlobalNetworkPolicy"))).size;
        assert.equal(await policies(), mostObjects);
        assert.equal((await readPending(store))[0]?.isOver, false);
        await etcd.kill();
        await etcd.restart();
        assert.equal(await policies(), mostObjects, "nothing is undone before its time");
        await wait("the change to be undone", async () => await policies() === 0, { deadlineMs: 60_000 });
        assert.equal((await etcd.dump(pendingPrefix)).size, 0);
        assert.match((await etcd.dump(lastUndoneKey)).get(lastUndoneKey)!, /GlobalNetworkPolicy\(p0\)/);
        await wait("it to be told", () => lines.some((l) => /change undone/.test(l)));
        assert.equal(lines.filter((l) => /change undone/.test(l)).length, 1, "by one of the three");
      } finally {
        stop.abort(new Error("over"));
        await Promise.all(guards);
        for (const s of stores) await s.store[Symbol.asyncDispose]();
      }
    },
  );
}
