import assert from "node:assert/strict";
import { MemoryStore } from "../datastore/memory.ts";
import { Mirror } from "../datastore/mirror.ts";
import type { CalicoNodeStatus, CalicoNodeStatusStatus } from "../datastore/kinds/calico_node_status.ts";
import { Resources } from "../datastore/resources.ts";
import { FakeClock, systemClock } from "../lib/clock.ts";
import { createLog, silentLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import type { BirdState, Session } from "./bird_status.ts";
import { reportNodeStatus } from "./node_status_report.ts";

const state: BirdState = {
  ...{ version: "2.0.12", routerId: "10.0.0.1", recovering: false },
  ...{ startedAt: "2026-11-21 15:56:37.402", reconfiguredAt: "2026-11-21 15:57:00.001" },
};
const session = (name: string, protocolState: string): Session => ({
  ...{ name, kind: "Mesh", peer: "10.0.0.2", protocolState, since: "2026-11-21 15:56:16" },
  state: protocolState === "up" ? "Established" : "Connect",
});

/** A running report with a BIRD that answers what the test says, and time that passes when the test says so. */
async function running(options: { withoutBird?: boolean } = {}) {
  const store = new MemoryStore(), clock = new FakeClock(), stop = new AbortController();
  const mirror = Mirror.start({ store, clock: systemClock, log: silentLog });
  const resources = new Resources(store);
  const told = { state: state as BirdState | undefined, sessions: [session("Mesh_10_0_0_2", "up")], asked: 0 };
  const bird = {
    state: () => Promise.resolve((told.asked++, told.state)),
    sessions: () => Promise.resolve(told.sessions),
    routes: () => Promise.resolve([]),
  };
  const logged: string[] = [];
  const log = createLog("routing", { write: (line) => logged.push(line) });
  await mirror.ready();
  const done = reportNodeStatus({
    ...{ mirror, resources, node: "n1", clock, log, signal: stop.signal },
    bird: options.withoutBird ? undefined : bird,
  });
  return {
    ...{ store, clock, resources, told, logged },
    get: () => resources.get<CalicoNodeStatus>("CalicoNodeStatus", "a"),
    /** The stored status, once it is so. */
    async until(is: (status: CalicoNodeStatusStatus) => boolean): Promise<CalicoNodeStatusStatus> {
      for (let n = 0; n < 500; n++) {
        const { status } = await resources.get<CalicoNodeStatus>("CalicoNodeStatus", "a");
        if (is(status!)) return status!;
        await systemClock.sleep(2);
      }
      throw new Error(`never so; log: ${logged}`);
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("the test is over"));
      await done.catch(() => {});
      await mirror[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

const question = (spec: Partial<CalicoNodeStatus["spec"]> = {}) => ({
  ...{ apiVersion: "projectcalico.org/v3" as const, kind: "CalicoNodeStatus", metadata: { name: "a" } },
  spec: { node: "n1", classes: ["Agent", "BGP"], updatePeriodSeconds: 10, ...spec },
});

Deno.test("a question is answered at once, and again after its period when something changed", async () => {
  await using world = await running();
  await world.resources.create(question());
  const first = await world.until((s) => s.bgp.numberEstablishedV4 === 1);
  assert.equal(first.agent.birdV4?.state, "Ready");
  assert.equal(first.lastUpdated, "2026-01-02T03:04:05Z");
  const { metadata } = await world.get();
  for (let n = 0; n < 3; n++) await world.clock.advance(10_000);
  assert.ok(world.told.asked >= 3);
  assert.equal((await world.get()).metadata.resourceVersion, metadata.resourceVersion, "nothing changed: no write");
  world.told.sessions = [session("Mesh_10_0_0_2", "start")];
  await world.clock.advance(10_000);
  const second = await world.until((s) => s.bgp.numberNotEstablishedV4 === 1);
  assert.deepEqual(second.bgp.peersV4?.map((p) => p.state), ["Connect"]);
});

Deno.test("period 0 is answered once; a changed spec is answered again, and what other classes told stays", async () => {
  await using world = await running();
  await world.resources.create(question({ updatePeriodSeconds: 0 }));
  await world.until((s) => s.bgp.numberEstablishedV4 === 1);
  const { asked } = world.told;
  await world.clock.advance(3_600_000);
  assert.equal(world.told.asked, asked);
  world.told.state = undefined;
  world.told.sessions = [];
  const stored = await world.get();
  await world.resources.update({ ...stored, spec: { ...stored.spec, classes: ["Agent"] } });
  const status = await world.until((s) => s.agent.birdV4?.state === "NotReady");
  assert.equal(status.bgp.numberEstablishedV4, 1);
});

Deno.test("a node without BIRD tells that it is not ready; questions to other nodes are not answered", async () => {
  await using world = await running({ withoutBird: true });
  await world.resources.create({ ...question({ node: "n2" }), metadata: { name: "b" } });
  await world.resources.create(question());
  const status = await world.until((s) => s.agent.birdV4?.state === "NotReady");
  assert.equal(status.agent.birdV6?.state, "NotReady");
  const other = await world.resources.get<CalicoNodeStatus>("CalicoNodeStatus", "b");
  assert.deepEqual(other.status?.agent, { birdV4: {}, birdV6: {} });
});

Deno.test("an answer that the datastore did not take is tried again, also where the period is 0", async () => {
  await using world = await running();
  const away = () => new Problem({ code: "unavailable", what: "etcd is away" });
  const { update } = world.resources;
  let failures = 0;
  world.resources.update = (resource) =>
    ++failures > 2 ? update.call(world.resources, resource) as never : Promise.reject(away());
  await world.resources.create(question({ updatePeriodSeconds: 0 }));
  for (let n = 0; failures < 1 && n < 500; n++) await systemClock.sleep(2);
  for (let n = 0; n < 4; n++) {
    await world.clock.advance(10_000);
    await systemClock.sleep(5);
  }
  await world.until((s) => s.agent.birdV4?.state === "Ready");
  assert.match(world.logged.join(""), /node status could not be told/);
});
