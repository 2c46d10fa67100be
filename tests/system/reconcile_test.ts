import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock, systemClock } from "../../lib/clock.ts";
import { parseCidr } from "../../lib/ip.ts";
import { filePort } from "../../kernel/files.ts";
import { Reconciler } from "../../kernel/reconcile.ts";
import { type Sysctl, sysctlPort } from "../../kernel/sysctl.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import { createVeth, getLink, setLink } from "../../kernel/rtnetlink/link.ts";
import {
  addRoute,
  describeRoute,
  listRoutes,
  removeRoute,
  type Route,
  route,
  routeKey,
  routePort,
  table,
} from "../../kernel/rtnetlink/route.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { enterOwnNetns } from "./_own_netns.ts";

/** Two interfaces that are up. */
function interfaces(socket: RtSocket): [number, number] {
  socket.one(createVeth({ name: "a" }, { name: "b" }), "pair");
  const indexes = ["a", "b"].map((name) => getLink(socket, name)!.index) as [number, number];
  socket.batch(indexes.map((index) => setLink(index, { up: true })));
  return indexes;
}

const nets = ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "fd01::/64", "fd02::/64"];
type Step =
  | { do: "want"; net: string; on: 0 | 1; mtuBytes: number | undefined }
  | { do: "want nothing"; net: string }
  /** Someone else makes or removes a route with our mark, or one with his own. */
  | { do: "foreign make"; net: string; on: 0 | 1; ours: boolean }
  | { do: "foreign remove"; net: string; ours: boolean }
  | { do: "doubt" }
  | { do: "flush" };

const net = fc.constantFrom(...nets);
const on = fc.constantFrom(0 as const, 1 as const);
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("want" as const), net, on, mtuBytes: fc.constantFrom(undefined, 1300) }),
  fc.record({ do: fc.constant("want nothing" as const), net }),
  fc.record({ do: fc.constant("foreign make" as const), net, on, ours: fc.boolean() }),
  fc.record({ do: fc.constant("foreign remove" as const), net, ours: fc.boolean() }),
  fc.constant({ do: "doubt" as const }),
  fc.constant({ do: "flush" as const }),
);

/** Our metric differs from others', so that they are not in each other's way. */
const wanted = (text: string, index: number, mtuBytes?: number) =>
  route({ dst: parseCidr(text), index, mtuBytes, protocol: 80, metric: 100, scope: 0 });
const foreign = (text: string, index: number) => route({ dst: parseCidr(text), index, protocol: 77, metric: 200 });

Deno.test("routes converge from any order of wishes and foreign hands, foreign routes stay, then nothing is written", async () => {
  await using _host = await enterOwnNetns("h4c");
  using socket = RtSocket.open(), other = RtSocket.open();
  const indexes = interfaces(socket);
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { maxLength: 25 }), async (all) => {
      const clock = new FakeClock();
      const ports = ([4, 6] as const).map((family) =>
        new Reconciler(routePort(socket, { family, owns: (r) => r.protocol === 80 }), {
          clock,
          random: () => 0,
          verify: "ack",
        })
      );
      const flush = () => Promise.all(ports.map((p) => p.flush()));
      const doubt = () => ports.forEach((p) => p.doubt());
      const world = { wants: new Map<string, Route>(), foreign: new Map<string, Route>() };
      for (const step of all) {
        if (step.do === "flush") await flush();
        else if (step.do === "doubt") doubt();
        else take(step, world, ports, other, indexes);
      }
      doubt();
      await flush();
      const found = ([4, 6] as const).flatMap((family) => listRoutes(other, { family, table: table.main }));
      const with_ = (protocol: number) => found.filter((r) => r.protocol === protocol).map(describe).sort();
      assert.deepEqual(with_(80), [...world.wants.values()].map(describe).sort());
      assert.deepEqual(with_(77), [...world.foreign.values()].map(describe).sort());
      const writes = socket.writes;
      doubt();
      await flush();
      assert.equal(socket.writes, writes, "in sync: no write");
      other.batch([...world.wants.values(), ...world.foreign.values()].map(removeRoute));
    }),
    { numRuns: 60 },
  );
});

const describe = (r: Route) => `${describeRoute(r)} mtu ${r.mtuBytes}`;

function take(
  step: Step,
  world: { wants: Map<string, Route>; foreign: Map<string, Route> },
  ports: Reconciler<string, Route>[],
  other: RtSocket,
  indexes: [number, number],
): void {
  if (step.do === "doubt" || step.do === "flush") return;
  const port = ports[step.net.includes(":") ? 1 : 0]!;
  switch (step.do) {
    case "want": {
      const r = wanted(step.net, indexes[step.on], step.mtuBytes);
      world.wants.set(step.net, r);
      return port.want(routeKey(r), r);
    }
    case "want nothing":
      world.wants.delete(step.net);
      return port.want(routeKey(wanted(step.net, 0)), undefined);
    case "foreign make": {
      const r = (step.ours ? wanted : foreign)(step.net, indexes[step.on]);
      other.batch([addRoute(r, true)]);
      if (!step.ours) world.foreign.set(step.net, r);
      return;
    }
    case "foreign remove": {
      const r = listRoutes(other, { family: step.net.includes(":") ? 6 : 4, table: table.main })
        .find((x) => x.protocol === (step.ours ? 80 : 77) && routeKey(x).includes(` ${step.net} `));
      if (r) other.batch([removeRoute(r)]);
      if (!step.ours) world.foreign.delete(step.net);
    }
  }
}

Deno.test("a route that the kernel refuses waits alone, and is made when its reason is gone", async () => {
  await using _host = await enterOwnNetns("h4c");
  using socket = RtSocket.open();
  const [up, down] = interfaces(socket);
  socket.one(setLink(down, { up: false }), "down");
  const clock = new FakeClock();
  const port = routePort(socket, { family: 4, owns: (r) => r.protocol === 80 });
  const reconciler = new Reconciler(port, { clock, random: () => 1, verify: "ack" });
  const good = wanted("10.1.0.0/24", up), bad = wanted("10.2.0.0/24", down);
  reconciler.wantAll(new Map([good, bad].map((r) => [routeKey(r), r])));
  const report = await reconciler.flush();
  assert.deepEqual([...report.failed].map(([key, f]) => [key, f.why]), [[
    routeKey(bad),
    "ENETDOWN, Device for nexthop is not up",
  ]]);
  assert.equal(reconciler.holds(routeKey(good)), true);
  socket.one(setLink(down, { up: true }), "up");
  await clock.advance(report.retryInMs!);
  assert.equal((await reconciler.flush()).retryInMs, undefined);
  assert.equal((await port.list()).size, 2);
});

Deno.test("switches are read back after they are written, and one that the kernel lacks is passed over", async () => {
  await using _host = await enterOwnNetns("h4c");
  const wants = new Map<string, Sysctl>([
    ["1", { path: "net/ipv4/conf/lo/proxy_arp", value: "1" }],
    ["2", { path: "net/ipv4/conf/lo/none", value: "1", optional: true }],
    ["3", { path: "net/ipv4/conf/lo/none", value: "1" }],
  ]);
  const reconciler = new Reconciler(sysctlPort(() => wants, systemClock), { clock: systemClock, random: () => 1 });
  reconciler.wantAll(wants);
  const { failed } = await reconciler.flush();
  assert.deepEqual([...failed.keys()], ["3"]);
  assert.equal(readSysctl("net/ipv4/conf/lo/proxy_arp"), "1");
  assert.equal(reconciler.counts.puts, 2);
});

Deno.test("files are made with their folder, replaced, and removed when nobody wants them", async () => {
  const folder = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "h4-files-" });
  try {
    const path = `${folder}/new/mtu`, other = `${folder}/new/other`;
    const reconciler = new Reconciler(filePort("files", () => [path]), { clock: systemClock, random: () => 1 });
    const want = async (text: string | undefined) => {
      reconciler.want(path, text === undefined ? undefined : { text, mode: 0o600 });
      assert.equal((await reconciler.flush()).retryInMs, undefined);
    };
    await want("1450");
    assert.equal(await Deno.readTextFile(path), "1450");
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await Deno.writeTextFile(other, "foreign");
    await Deno.writeTextFile(path, "changed");
    reconciler.doubt();
    await want("1450");
    assert.equal(await Deno.readTextFile(path), "1450");
    await want(undefined);
    assert.deepEqual([...Deno.readDirSync(`${folder}/new`)].map((e) => e.name), ["other"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a file that cannot be written is told of", async () => {
  const reconciler = new Reconciler(filePort("files", () => ["/proc/h4/x"]), { clock: systemClock, random: () => 1 });
  reconciler.want("/proc/h4/x", { text: "1" });
  assert.deepEqual([...(await reconciler.flush()).failed.keys()], ["/proc/h4/x"]);
});
