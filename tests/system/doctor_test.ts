/** `ctl doctor`: faults that are made from outside are found, named and given a cure; it is silent before and after. */
import assert from "node:assert/strict";
import { run } from "../../lib/process.ts";
import { tortie } from "../lab/agent_world.ts";
import { keepOnFailure } from "../lab/artefacts.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { linkPlugin } from "../lab/tortie.ts";
import { makeOverlay } from "../lab/overlay.ts";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";
import { type Group, groups, type Sick } from "./_doctor_faults.ts";

interface Told {
  healthy: boolean;
  faults: { check: string; what: string; cure: string }[];
  notLookedAt: { check: string; why: string; elsewhere: boolean }[];
  made: string[];
}

type Doctor = () => Promise<{ code: number; told: Told }>;

const parsed = ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => {
  assert.match(stdout, /^\{/, stderr);
  return { code, told: JSON.parse(stdout) as Told };
};

/** Every fault of the list is among what was told, with a whole sentence as its cure, and nothing else is. */
function finds(told: Told, wanted: readonly { check: string; says: RegExp }[], also: readonly string[] = []): void {
  const text = `\n${told.faults.map((f) => `${f.check}: ${f.what}`).join("\n")}`;
  for (const { check, says } of wanted) {
    const found = told.faults.find((f) => f.check === check && says.test(f.what));
    assert.ok(found, `${check} ${says} is not among ${text}`);
    assert.match(found.cure, /^\S.{10,}\.$|\)$/, check);
    assert.doesNotMatch(found.what + found.cure, /\{\w+\}|undefined/, check);
  }
  const known = new Set([...wanted.map((w) => w.check), ...also]);
  assert.deepEqual(told.faults.filter((f) => !known.has(f.check)).map((f) => `${f.check}: ${f.what}`), []);
}

Deno.test({
  name: "on a host of a cluster every fault is found and told its cure, and nothing is told when it is over",
  ...{ sanitizeOps: false, sanitizeResources: false },
  fn: async (t) => {
    await using overlay = await makeOverlay({ hosts: 2, prefix: "dr", env: { CALICO_IPV4POOL_VXLAN: "Always" } });
    await keepOnFailure("doctor", overlay.lab, async () => {
      const pods = await Promise.all([overlay.pod(0, "one"), overlay.pod(1, "two")]);
      const world: Sick = { ...overlay, pods: [...pods, await overlay.pod(1, "spare")], started: [] };
      const doctor = await doctorOf(world);
      await t.step("a healthy cluster: nothing is found, all is looked at", () => isHealthy(doctor));
      for (const group of groups) await t.step(group.name, () => sickAndWell(world, doctor, group));
      await t.step("an agent whose program was replaced, and one that is gone", () => withoutAgent(world, doctor));
      await t.step("a datastore that is gone", () => withoutDatastore(world, doctor));
    });
  },
});

/** The doctor of host h1. */
async function doctorOf({ lab, etcd }: Sick): Promise<Doctor> {
  const host = lab.hosts[0]!, program = await linkPlugin(host);
  return async () =>
    parsed(
      await host.run(program, ["ctl", "doctor", "-o", "json"], {
        ...{ env: { ETCD_ENDPOINTS: etcd.endpoint }, timeoutMs: 60_000 },
      }),
    );
}

async function isHealthy(doctor: Doctor): Promise<void> {
  let last: unknown;
  await wait("a doctor who finds nothing", async () => {
    const { code, told } = await doctor();
    last = told.faults.map((f) => `${f.check}: ${f.what}`);
    assert.equal(told.healthy, code === 0);
    if (code === 0) assert.deepEqual(told.notLookedAt.filter((n) => !n.elsewhere), []);
    return code === 0;
  }, { deadlineMs: 30_000, everyMs: 200 }).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(last, null, 1)}`);
  });
}

async function whileSick(world: Sick, doctor: Doctor, { faults, atOnce, also }: Group): Promise<void> {
  if (atOnce) await Promise.all(faults.map((fault) => fault.inject(world)));
  else for (const fault of faults) await fault.inject(world);
  await wait("the doctor to find it all", async () => {
    const { code, told } = await doctor();
    assert.equal(code, 1);
    finds(told, faults, also);
    return true;
  }, { deadlineMs: 15_000, everyMs: 200 });
}

async function sickAndWell(world: Sick, doctor: Doctor, group: Group): Promise<void> {
  const { faults, agentStopped } = group;
  const agent = world.nodes[0]!.process;
  if (agentStopped) agent.signal("SIGSTOP");
  const sick = await Promise.allSettled([whileSick(world, doctor, group)]);
  const cured = await Promise.allSettled(faults.map((fault) => fault.cure(world)));
  if (agentStopped) agent.signal("SIGCONT");
  for (const step of [...sick, ...cured]) if (step.status === "rejected") throw step.reason;
  await isHealthy(doctor);
}

async function withoutAgent(world: Sick, doctor: Doctor): Promise<void> {
  const { nodes: [node], lab: { hosts: [host] } } = world as Sick & { nodes: [Sick["nodes"][0]] };
  const program = await linkPlugin(host!);
  await Deno.copyFile(program, `${program}.new`);
  await Deno.rename(`${program}.new`, program);
  finds((await doctor()).told, [{ check: "agent-old-program", says: new RegExp(`still runs an older ${program}`) }]);
  await node.process.kill();
  finds((await doctor()).told, [{ check: "agent-away", says: /^no agent listens at \/run\/tortie\/agent\.sock$/ }]);
  await node.start();
  await isHealthy(doctor);
}

async function withoutDatastore({ etcd }: Sick, doctor: Doctor): Promise<void> {
  await etcd.kill();
  const { code, told } = await doctor();
  assert.equal(code, 1);
  finds(told, [{ check: "datastore-away", says: /^the datastore does not answer at http:\/\/172\.30\.0\.1:2379: / }], [
    "agent-not-ready",
  ]);
  await etcd.restart();
  await isHealthy(doctor);
}

/** Runs the doctor on a machine that is no node. */
const elsewhere = async (endpoints: string, ...args: string[]) => {
  const [program, ...words] = tortie() as [string, ...string[]];
  const nowhere = "/proc/nowhere"; // nobody can make it
  const env = {
    ...{ ETCD_ENDPOINTS: endpoints, TORTIE_RUN_DIR: nowhere, TORTIE_STATE_DIR: nowhere },
    ...{ CALICO_NODENAME_FILE: nowhere, NODENAME: "laptop", NO_COLOR: "1" },
  };
  return await run(program, [...words, "ctl", "doctor", ...args], { env, timeoutMs: 60_000 });
};

/** etcd behind an HTTP proxy that is slow, and whose clock is wrong. */
function slowProxy(etcd: Etcd, delayMs: number, aheadMs: number): { endpoint: string } & AsyncDisposable {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const answer = await fetch(etcd.endpoint + pathname, {
      method: request.method,
      ...(request.method === "POST" && { body: await request.text() }),
    });
    const body = await answer.text();
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    return new Response(body, { headers: { date: new Date(Date.now() + aheadMs).toUTCString() } });
  });
  return { endpoint: `http://127.0.0.1:${server.addr.port}`, [Symbol.asyncDispose]: () => server.shutdown() };
}

/** Writes until etcd takes no more. */
async function fill(etcd: Etcd): Promise<void> {
  const value = btoa("x".repeat(200_000));
  for (let i = 0; i < 40; i++) {
    const body = JSON.stringify({ key: btoa(`/ballast/${i}`), value });
    const answer = await fetch(`${etcd.endpoint}/v3/kv/put`, { method: "POST", body });
    await answer.body?.cancel();
    if (!answer.ok) return;
  }
  throw new Error("etcd with a small quota took 8 MB");
}

Deno.test("on a machine that is no node the cluster is looked at, and what belongs to a node is said to be elsewhere", async () => {
  await using etcd = await startEtcd({ flags: ["--quota-backend-bytes=2097152"] });
  const key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
  const empty = parsed(await elsewhere(etcd.endpoint, "-o", "json"));
  finds(empty.told, [{ check: "datastore-empty", says: /no ClusterInformation/ }]);
  const metadata = { name: "default", uid: "u", creationTimestamp: "2026-01-02T03:04:05Z" };
  const information = { kind: "ClusterInformation", metadata, spec: { datastoreReady: true } };
  await etcd.etcdctl("put", key, JSON.stringify({ apiVersion: "projectcalico.org/v3", ...information }));
  const well = await elsewhere(etcd.endpoint);
  assert.equal(well.code, 0, well.stdout);
  assert.match(
    well.stdout,
    /^not for here: \d+ checks, because this host is no node of the cluster\nhealthy: \d+ checks/,
  );
  const [port] = freePorts(1);
  await using proxy = slowProxy(etcd, 150, 60_000);
  const sick = parsed(await elsewhere(`${proxy.endpoint},http://127.0.0.1:${port}`, "-o", "json"));
  finds(sick.told, [
    { check: "datastore-slow", says: /^the datastore takes 1\d\d ms|^the datastore takes [2-9]\d\d ms/ },
    { check: "clock-skew", says: /^the clock of etcd at \S+ is (59|6\d) s ahead of this host's$/ },
    { check: "datastore-member-away", says: new RegExp(`^http://127\\.0\\.0\\.1:${port} does not answer while`) },
  ]);
  await fill(etcd);
  const full = parsed(await elsewhere(etcd.endpoint, "-o", "json"));
  finds(full.told, [
    { check: "etcd-nearly-full", says: /^etcd at \S+ uses \d+ % of its quota of 2 MB$/ },
    { check: "etcd-alarm", says: /^etcd at \S+ has raised the alarm NOSPACE$/ },
  ]);
});

Deno.test("without a datastore to look at, the doctor says so and exits with 2", async () => {
  const { code, stdout } = await elsewhere("");
  assert.equal(code, 2, stdout);
  assert.match(stdout, /^NOT LOOKED AT datastore-away, [^\n]*\n +because [^\n]*ETCD_ENDPOINTS/);
  assert.match(stdout, /\nno fault found, and not everything could be looked at: /);
  const unknown = await elsewhere("", "-o", "xml");
  assert.deepEqual([unknown.code, unknown.stderr], [1, "unrecognized output format 'xml'\n"]);
});
