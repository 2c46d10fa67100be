import assert from "node:assert/strict";
import fc from "fast-check";
import { Bird } from "../../routing/bird.ts";
import { ask } from "../../routing/bird_control.ts";
import { sealOf } from "../../routing/bird_config.ts";
import { reportNodeStatus } from "../../routing/node_status_report.ts";
import type { CalicoNodeStatus } from "../../datastore/kinds/calico_node_status.ts";
import { Resources } from "../../datastore/resources.ts";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { run } from "../../lib/process.ts";
import { startEtcd } from "../lab/etcd.ts";
import type { Case } from "../cases/case_runner.ts";
import { type BirdInput, configurationOf } from "../cases/runners/_bird_input.ts";
import { anyCluster } from "./_bird_fuzz.ts";
import { compareWithBird } from "./_bird_world.ts";
import {
  type BgpLab,
  established,
  giveBlock,
  keyOf,
  makeBgpLab,
  patiently,
  routeTo,
  type RunningRouting,
  type SpeakerHost,
  startRouting,
  watchRoutes,
} from "./_bgp_lab.ts";

const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("nodes of a mesh exchange their blocks, and a restart of routing changes nothing", options, async () => {
  await using lab = await makeBgpLab(3);
  const [h1, h2, h3] = lab.hosts as [SpeakerHost, SpeakerHost, SpeakerHost];
  for (const host of lab.hosts) {
    await giveBlock(lab, host, `10.65.${host.number}.0/26`);
    await giveBlock(lab, host, `fd65::${host.number}00/122`);
  }
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  {
    await using third = startRouting(lab, h3);
    await established([first, second, third], 4);
    for (const from of lab.hosts) {
      for (const to of lab.hosts) {
        const expected = from === to ? ["blackhole"] : [from.address];
        await patiently(`the block of ${from.name} on ${to.name}`, async () => {
          assert.deepEqual(await routeTo(to.space, `10.65.${from.number}.0/26`), expected);
          const six = from === to ? ["blackhole"] : [from.address6];
          assert.deepEqual(await routeTo(to.space, `fd65::${from.number}00/122`), six);
          return true;
        });
      }
    }
    assert.deepEqual((await third.routing.status()).counts, { configured: 0, started: 1, refused: 0 });
    await answersNodeStatus(lab, h3, third);
  }
  const monitors = lab.hosts.map((h) => watchRoutes(h.space));
  const before = (await second.routing.status()).sessions;
  {
    await using third = startRouting(lab, h3);
    await patiently("routing of h3 to have looked", () => third.health.ready(), { deadlineMs: 15_000 });
    const status = await third.routing.status();
    assert.deepEqual(status.counts, { configured: 0, started: 0, refused: 0 });
    assert.equal(status.sessions.filter((s) => s.state === "Established").length, 4);
    assert.deepEqual(third.logged, []);
  }
  assert.deepEqual((await second.routing.status()).sessions, before);
  for (const monitor of monitors) await monitor.stop();
  assert.deepEqual(monitors.map((m) => m.lines), [[], [], []]);
});

/** What a CalicoNodeStatus is told by a node whose BIRD has two neighbours in each family, and their blocks. */
async function answersNodeStatus(lab: BgpLab, host: SpeakerHost, { mirror, routing }: RunningRouting): Promise<void> {
  const resources = new Resources(lab.store), stop = new AbortController();
  const done = reportNodeStatus({
    ...{ mirror, resources, node: host.name, bird: routing.bird, clock: systemClock, log: silentLog },
    signal: stop.signal,
  });
  const spec = { node: host.name, classes: ["Agent", "BGP", "Routes"], updatePeriodSeconds: 0 };
  const metadata = { name: "asked" };
  await resources.create({ apiVersion: "projectcalico.org/v3", kind: "CalicoNodeStatus", metadata, spec });
  const get = () => resources.get<CalicoNodeStatus>("CalicoNodeStatus", "asked");
  const { agent, bgp, routes } = await patiently("an answer", async () => {
    const { status } = await get();
    return status?.lastUpdated ? status : undefined;
  });
  stop.abort(new Error("the test is over"));
  await done;
  assert.deepEqual([agent.birdV4?.state, agent.birdV6?.routerID], ["Ready", host.address]);
  assert.deepEqual([bgp.numberEstablishedV4, bgp.numberEstablishedV6], [2, 2]);
  assert.deepEqual(bgp.peersV4?.map((p) => [p.peerIP, p.type, p.state]).sort(), [
    ["10.99.0.1", "NodeMesh", "Established"],
    ["10.99.0.2", "NodeMesh", "Established"],
  ]);
  const found = (list: typeof routes.routesV4, net: string) =>
    list?.filter((r) => r.destination === net).map((r) => [r.type, r.gateway, r.interface, r.learnedFrom?.sourceType]);
  assert.deepEqual(found(routes.routesV4, "10.65.1.0/26"), [["FIB", "10.99.0.1", "eth0", "NodeMesh"]]);
  assert.deepEqual(found(routes.routesV6, "fd65::200/122")?.map((r) => r[3]), ["NodeMesh"]);
  assert.deepEqual(found(routes.routesV4, "10.65.3.0/26"), [["FIB", "N/A", "blackhole", "Static"]]);
}

Deno.test(
  "kill -9 of routing leaves BIRD, its sessions and its routes; the next one finds them as they are",
  options,
  async () => {
    await using etcd = await startEtcd();
    await using lab = await makeBgpLab(2, etcd);
    const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
    await giveBlock(lab, h1, "10.65.1.0/26");
    await using second = startRouting(lab, h2);
    const child = startChild(etcd.endpoint, h1);
    await established([second], 2);
    await patiently("the block of h1", async () => (await routeTo(h2.space, "10.65.1.0/26"))?.[0] === h1.address);
    // A BIRD that recovers gives its own kernel the routes last.
    await patiently(
      "the blackhole of h1",
      async () => (await h1.space.ip("route show proto bird")).includes("blackhole 10.65.1.0/26"),
    );
    const monitors = lab.hosts.map((h) => watchRoutes(h.space));
    const pid = await Deno.readTextFile(h1.paths.pid);
    const before = (await second.routing.status()).sessions;
    child.kill("SIGKILL");
    await child.status;
    const again = startChild(etcd.endpoint, h1);
    // A new block shows that the new process follows etcd and speaks with the old BIRD.
    await giveBlock(lab, h1, "10.65.9.0/26");
    await patiently("the new block of h1", async () => (await routeTo(h2.space, "10.65.9.0/26"))?.[0] === h1.address);
    again.kill("SIGTERM");
    await again.status;
    assert.equal(await Deno.readTextFile(h1.paths.pid), pid);
    assert.deepEqual((await second.routing.status()).sessions.map((s) => s.since), before.map((s) => s.since));
    for (const monitor of monitors) await monitor.stop();
    const changed = monitors.flatMap((m) => m.lines);
    assert.ok(changed.length > 0 && changed.every((line) => line.includes("10.65.9.0/26")), changed.join("\n"));
  },
);

function startChild(endpoint: string, host: SpeakerHost): Deno.ChildProcess {
  const script = new URL("_routing_child.ts", import.meta.url).pathname;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", script, endpoint, host.name, JSON.stringify(host.paths)],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
}

Deno.test("a peer that comes costs one configure and no other session", options, async () => {
  await using lab = await makeBgpLab(3);
  const [h1, h2, h3] = lab.hosts as [SpeakerHost, SpeakerHost, SpeakerHost];
  const node3 = (await lab.store.get(keyOf("nodes", h3.name)))!.value;
  await lab.deleteKey(keyOf("nodes", h3.name));
  await giveBlock(lab, h2, "10.65.2.0/26");
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  await established([first, second], 2);
  await patiently("the block of h2", async () => (await routeTo(h1.space, "10.65.2.0/26"))?.[0] === h2.address);
  const monitor = watchRoutes(h1.space);
  const before = (await first.routing.status()).sessions;
  await using third = startRouting(lab, h3);
  await lab.putKey(keyOf("nodes", h3.name), node3);
  await established([first, second, third], 4);
  await monitor.stop();
  const after = await first.routing.status();
  for (const session of before) {
    assert.equal(after.sessions.find((s) => s.name === session.name)?.since, session.since, session.name);
  }
  assert.deepEqual(after.counts, { configured: 1, started: 1, refused: 0 });
  assert.deepEqual(monitor.lines, []);
});

Deno.test(
  "a BIRD that is killed is started again; neither its own kernel nor its neighbour loses a route",
  options,
  async () => {
    await using lab = await makeBgpLab(2);
    const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
    await giveBlock(lab, h1, "10.65.1.0/26");
    await giveBlock(lab, h2, "10.65.2.0/26");
    await using first = startRouting(lab, h1);
    await using second = startRouting(lab, h2);
    await established([first, second], 2);
    for (const [at, net] of [[h2, "10.65.1.0/26"], [h1, "10.65.2.0/26"]] as const) {
      await patiently(`a route to ${net}`, () => routeTo(at.space, net));
    }
    const monitors = lab.hosts.map((h) => watchRoutes(h.space));
    const pid = Number(await Deno.readTextFile(h1.paths.pid));
    Deno.kill(pid, "SIGKILL");
    await patiently("another BIRD on h1", async () => {
      const state = await first.routing.bird.state();
      return state && !state.recovering && Number(await Deno.readTextFile(h1.paths.pid)) !== pid;
    }, { deadlineMs: 30_000 });
    await established([first, second], 2);
    for (const monitor of monitors) await monitor.stop();
    assert.deepEqual(monitors.map((m) => m.lines), [[], []]);
    assert.equal((await first.routing.status()).counts.started, 2);
  },
);

Deno.test("a configuration that BIRD refuses is never installed, and no password comes out", options, async () => {
  await using lab = await makeBgpLab(1);
  const [h1] = lab.hosts as [SpeakerHost];
  await using first = startRouting(lab, h1);
  await patiently("BIRD", () => first.routing.bird.running());
  const good = await Deno.readTextFile(h1.paths.config);
  const bird = new Bird({ paths: h1.paths, clock: systemClock, log: silentLog, startedBy: "us" });
  const bad = good.replace("graceful restart wait 60;", 'graceful restart s3cret;\n# password "s3cret"');
  const applied = await bird.apply(bad, ["s3cret"]);
  assert.equal(applied.is, "refused");
  assert.match((applied as { line: string }).line, /bird\.conf:\d+:\d+/);
  assert.ok(!JSON.stringify(applied).includes("s3cret"));
  assert.equal(await Deno.readTextFile(h1.paths.config), good);
  assert.equal(await bird.running(), sealOf(good));
  await assert.rejects(Deno.stat(`${h1.paths.config}.new`), Deno.errors.NotFound);
});

Deno.test("nothing is announced before the dataplane is ready", options, async () => {
  await using lab = await makeBgpLab(1);
  const [h1] = lab.hosts as [SpeakerHost];
  const ready = Promise.withResolvers<void>();
  await using first = startRouting(lab, h1, { dataplaneReady: ready.promise });
  await patiently("routing to wait", async () => /dataplane/.test((await first.routing.status()).lastError ?? ""));
  assert.equal(await first.routing.bird.running(), undefined);
  ready.resolve();
  await patiently("BIRD", () => first.routing.bird.running());
  await patiently("no error", async () => (await first.routing.status()).lastError === undefined);
});

Deno.test("when the own Node is deleted the last configuration stays, and the status says so", options, async () => {
  await using lab = await makeBgpLab(2);
  const [h1] = lab.hosts as [SpeakerHost];
  await using first = startRouting(lab, h1);
  const seal = await patiently("BIRD", () => first.routing.bird.running());
  await lab.deleteKey(keyOf("nodes", h1.name));
  const status = await patiently("the problem", async () => {
    const s = await first.routing.status();
    return s.lastError === undefined ? undefined : s;
  });
  assert.match(status.lastError!, /no Node resource/);
  assert.equal(status.problems[0]?.where, "Node h1");
  assert.equal(await first.routing.bird.running(), seal);
  assert.equal(status.sessions.length, 2);
});

Deno.test(
  "a bad peer, a stored value that is no JSON and a missing password harm nobody else and are named",
  options,
  async () => {
    await using lab = await makeBgpLab(2);
    const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
    await lab.put("bgppeers", "no-as", { peerIP: "10.99.0.200" });
    await lab.put("bgppeers", "nowhere", { peerIP: "10.99.0.300", asNumber: 65010 });
    await lab.put("bgppeers", "secret", {
      ...{ peerIP: "10.99.0.201", asNumber: 65010, filters: ["gone"] },
      password: { secretKeyRef: { name: "bgp", key: "tor" } },
    });
    await lab.putKey(keyOf("bgppeers", "broken"), "{");
    await using first = startRouting(lab, h1);
    await using second = startRouting(lab, h2);
    await patiently("the mesh", async () => {
      const { sessions } = await second.routing.status();
      return sessions.filter((s) => s.kind === "Mesh" && s.state === "Established").length === 2;
    }, { deadlineMs: 30_000 });
    const { problems } = await first.routing.status();
    const named = problems.map((p) => p.where);
    for (const where of ["BGPPeer no-as, spec.asNumber", "BGPPeer nowhere, spec.peerIP", keyOf("bgppeers", "broken")]) {
      assert.ok(named.includes(where), `${where} in ${named}`);
    }
    assert.ok(named.includes("BGPPeer secret, spec.password") && named.includes("BGPPeer secret"));
    // The password comes: the session gets it without a word about it in the log.
    await Deno.mkdir(`${h1.paths.secrets}/bgp`, { recursive: true });
    await Deno.writeTextFile(`${h1.paths.secrets}/bgp/tor`, "tiger-7\n", { mode: 0o600 });
    await patiently("the password in the configuration", async () => {
      return (await Deno.readTextFile(h1.paths.config)).includes('password "tiger-7";');
    }, { deadlineMs: 15_000 });
    assert.equal((await Deno.stat(h1.paths.config)).mode! & 0o777, 0o600);
    assert.ok(!JSON.stringify(first.logged).includes("tiger-7"));
  },
);

/** Cases that the wire of a test cannot show: two sessions with one address, of which BIRD runs one at a time. */
const oneAddressTwice = ["peer_port", "listen_port_node", "f_sel"];

Deno.test("real BIRD does with each case's text what its reader says: exports, imports, kernel", options, async () => {
  const cases = JSON.parse(await Deno.readTextFile(new URL("../cases/bird.json", import.meta.url))).cases as Case[];
  const queue = cases.filter((c) => !oneAddressTwice.includes(c.id));
  const total = { cases: 0, sessions: 0, exported: 0, imported: 0, kernel: 0 };
  const failed: string[] = [];
  const worker = async () => {
    for (let c = queue.shift(); c; c = queue.shift()) {
      try {
        const compared = await compareWithBird(c.id, c.input as unknown as BirdInput);
        total.cases++;
        for (const [what, n] of Object.entries(compared)) total[what as keyof typeof total] += n;
      } catch (error) {
        failed.push(`${c.id}: ${(error as Error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  assert.deepEqual(failed, []);
  console.log("compared with BIRD:", JSON.stringify(total));
  assert.ok(total.cases >= 83 && total.exported > 400 && total.imported > 250 && total.kernel > 200);
});

Deno.test("with BFD by annotation a cut link takes the routes away within 3 seconds", options, async () => {
  await using lab = await makeBgpLab(2);
  const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
  await lab.put("bgpconfigurations", "default", {}, { annotations: { "tortie/bfd": "on" } });
  await giveBlock(lab, h2, "10.65.2.0/26");
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  await established([first, second], 2);
  await patiently("the block of h2", async () => (await routeTo(h1.space, "10.65.2.0/26"))?.[0] === h2.address);
  await patiently("BFD", async () => {
    const reply = await ask(h1.paths.control, "show bfd sessions", systemClock);
    return reply.lines.filter((l) => / Up /.test(l.text)).length === 2;
  });
  await lab.wire.ip("link set p2 down");
  await patiently("the route to go", async () => await routeTo(h1.space, "10.65.2.0/26") === undefined, {
    deadlineMs: 3_000,
  });
});

Deno.test("with long-lived graceful restart the routes of a dead peer outlast its restart time", options, async () => {
  await using lab = await makeBgpLab(2);
  const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
  const annotations = { "tortie/long-lived-graceful-restart": "1h" };
  await lab.put("bgpconfigurations", "default", { nodeMeshMaxRestartTime: "1s" }, { annotations });
  await giveBlock(lab, h2, "10.65.2.0/26");
  await using first = startRouting(lab, h1);
  {
    await using second = startRouting(lab, h2);
    await established([first, second], 2);
    await patiently("the block of h2", async () => (await routeTo(h1.space, "10.65.2.0/26"))?.[0] === h2.address);
  }
  Deno.kill(Number(await Deno.readTextFile(h2.paths.pid)), "SIGKILL");
  const stale = await patiently("the long-lived phase", async () => {
    const reply = await ask(h1.paths.control, "show protocols all Mesh_10_99_0_2", systemClock);
    return reply.lines.some((l) => /LL stale timer/.test(l.text)) ? reply : undefined;
  });
  assert.ok(stale);
  assert.deepEqual(await routeTo(h1.space, "10.65.2.0/26"), [h2.address]);
});

Deno.test("Calico's sockets show the sessions of their family in the words of BIRD 1.6", options, async () => {
  await using lab = await makeBgpLab(2);
  const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
  await Deno.mkdir(h1.paths.calicoSockets, { recursive: true });
  // What a program that was killed leaves behind.
  await Deno.writeTextFile(`${h1.paths.calicoSockets}/bird.ctl`, "");
  await using first = startRouting(lab, h1);
  await using second = startRouting(lab, h2);
  await established([first, second], 2);
  for (const [socket, name] of [["bird.ctl", "Mesh_10_99_0_2"], ["bird6.ctl", "Mesh_fd99__2"]] as const) {
    const reply = await ask(`${h1.paths.calicoSockets}/${socket}`, "show protocols", systemClock);
    assert.deepEqual(reply.lines[0]!.text.split(/\s+/), ["name", "proto", "table", "state", "since", "info"]);
    const sessions = reply.lines.map((l) => l.text.split(/\s+/)).filter((words) => words[1] === "BGP");
    assert.deepEqual(sessions.map((w) => [w[0], w[3], w[5]]), [[name, "up", "Established"]]);
    const refused = await ask(`${h1.paths.calicoSockets}/${socket}`, "down", systemClock);
    assert.equal(refused.code, 9001);
  }
  await first[Symbol.asyncDispose]();
  await assert.rejects(Deno.stat(`${h1.paths.calicoSockets}/bird.ctl`), Deno.errors.NotFound);
});

Deno.test("whatever stands in the resources, BIRD takes the text: no object can stop the others", options, async () => {
  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "h6-fuzz-" });
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]! | 0;
  console.log("seed", seed);
  const property = fc.asyncProperty(anyCluster, async (input) => {
    const file = `${dir}/bird.conf`;
    await Deno.writeTextFile(file, configurationOf(input, true));
    const { code, stderr } = await run("bird", ["-p", "-c", file]);
    assert.equal(code, 0, stderr);
  });
  try {
    await fc.assert(property, { numRuns: 250, seed });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test(
  "a changed filter re-judges the routes and costs no session; a burst of changes is few configures",
  options,
  async () => {
    await using lab = await makeBgpLab(2);
    const [h1, h2] = lab.hosts as [SpeakerHost, SpeakerHost];
    await lab.put("bgpconfigurations", "default", { nodeToNodeMeshEnabled: false });
    await lab.put("bgpfilters", "f", { exportV4: [{ cidr: "10.99.0.0/16", matchOperator: "In", action: "Reject" }] });
    await lab.put("bgppeers", "all", { nodeSelector: "all()", peerSelector: "all()", filters: ["f"] });
    await giveBlock(lab, h2, "10.65.2.0/26");
    await using first = startRouting(lab, h1);
    await using second = startRouting(lab, h2);
    await established([first, second], 2);
    await patiently("the block of h2", async () => (await routeTo(h1.space, "10.65.2.0/26"))?.[0] === h2.address);
    const since = async () => (await first.routing.status()).sessions.map((s) => `${s.name} ${s.since}`);
    const before = await since();
    await lab.put("bgpfilters", "f", { exportV4: [{ cidr: "10.65.2.0/26", matchOperator: "In", action: "Reject" }] });
    await patiently("the route to go", async () => await routeTo(h1.space, "10.65.2.0/26") === undefined);
    assert.deepEqual(await since(), before);
    const { configured } = (await second.routing.status()).counts;
    for (let i = 0; i < 200; i++) await giveBlock(lab, h2, `10.65.${100 + (i >> 2)}.${(i & 3) * 64}/26`);
    await patiently("the last of 200 blocks", () => routeTo(h1.space, "10.65.149.192/26"));
    const after = await second.routing.status();
    assert.ok(after.counts.configured - configured <= 4, `${after.counts.configured - configured} configures`);
    assert.deepEqual(await since(), before);
  },
);
