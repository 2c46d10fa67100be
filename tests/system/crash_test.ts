/**
 * Kills agent and plugin again and again in the middle of ADDs and DELs, and then asks a judge that shares no code with
 * `ipam/` whether blocks, handles, endpoints and interfaces agree. The seed is printed; CRASH_SEED repeats a run.
 */
import assert from "node:assert/strict";
import { addSteps } from "../../agent/endpoints/request.ts";
import { judge } from "../ipam_judge.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { type Host, type HostProcess } from "../lab/host.ts";
import { makeHosts } from "../lab/hosts.ts";
import { binary, linkPlugin, pluginConfig } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

const kills = Number(Deno.env.get("CRASH_KILLS") ?? 200);
const pods = 8;

/** A small generator with a seed (mulberry32), so that a run can be repeated. */
function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** One container that a runtime would know of. */
interface Attachment {
  id: string;
  netns: string;
  /** What the last ADD answered; undefined: the runtime believes that there is nothing. */
  alive: boolean;
}

/** A host with an agent that can be killed. */
class Rig {
  agent: HostProcess | undefined;
  /** What the last call answered. */
  said = "";
  /** Kills by kind: "agent", "plugin", and the name of each step. */
  readonly killed: Record<string, number> = {};

  constructor(readonly host: Host, readonly etcd: Etcd, readonly random: () => number) {}

  async startAgent(dieAt?: string): Promise<void> {
    const env: Record<string, string> = {
      ...{ ETCD_ENDPOINTS: this.etcd.endpoint, CALICO_IPV4POOL_CIDR: "10.77.0.0/22", CALICO_IPV6POOL_CIDR: "none" },
      ...{ CALICO_NETWORKING_BACKEND: "vxlan", IP: "autodetect" },
      ...(dieAt ? { TORTIE_TEST_DIE_AT: dieAt } : {}),
    };
    const agent = await this.host.start("tortie", binary, ["node"], env);
    this.agent = agent;
    let last: unknown;
    const ready = async () =>
      agent.isEnded || (last = await this.status(), (last as { ready: boolean })?.ready === true);
    await wait("the agent to be ready", ready, { deadlineMs: 40_000, everyMs: 20 }).catch((error) => {
      throw new Error(`${error.message}; it says ${JSON.stringify(last)}, its log ends:\n${agent.logTail()}`);
    });
    assert.ok(!agent.isEnded, `the agent ended at its start:\n${agent.logTail()}`);
  }

  async status(): Promise<{ ready: boolean; pending: unknown[] } | undefined> {
    const args = ["-s", "--max-time", "2", "--unix-socket", "/run/tortie/agent.sock", "http://agent/v1/status"];
    const { code, stdout } = await this.host.run("curl", args);
    return code === 0 ? JSON.parse(stdout) : undefined;
  }

  /** A CNI call as a runtime makes it. @param killAfterMs kills the plugin then. */
  async call(command: "ADD" | "DEL", a: Attachment, killAfterMs?: number): Promise<number> {
    const env = {
      ...{ CNI_COMMAND: command, CNI_CONTAINERID: a.id, CNI_NETNS: a.netns, CNI_IFNAME: "eth0" },
      CNI_PATH: "/opt/cni/bin",
    };
    const config = pluginConfig(this.host, { etcdEndpoint: this.etcd.endpoint });
    const [program, ...args] = [...this.host.enter, "/opt/cni/bin/calico"];
    const child = new Deno.Command(program!, { args, env, stdin: "piped", stdout: "piped", stderr: "null" }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(JSON.stringify(config)));
    await writer.close();
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => this.#killPlugin(child), killAfterMs);
    const { code, stdout } = await child.output();
    clearTimeout(timer);
    this.said = `${command} ${a.id}: ${code} ${new TextDecoder().decode(stdout)}`;
    return code;
  }

  #killPlugin(child: Deno.ChildProcess): void {
    // nsenter runs the plugin as its child when it enters a process namespace: both go.
    const children = Deno.readTextFileSync(`/proc/${child.pid}/task/${child.pid}/children`).trim().split(" ");
    for (const pid of [...children.filter((c) => c !== "").map(Number), child.pid]) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch { /* ended by itself a moment ago */ }
    }
    this.#count("plugin");
  }

  async killAgent(): Promise<void> {
    await this.agent!.kill("SIGKILL");
    this.#count("agent");
  }

  /** The agent kills itself at a step of the ADD that comes. */
  async waitForDeathAt(step: string): Promise<void> {
    await wait(`the agent to die at "${step}"`, () => this.agent!.isEnded, { deadlineMs: 30_000 }).catch((error) => {
      throw new Error(`${error.message}; the call said ${this.said}, the agent's log ends:\n${this.agent!.logTail()}`);
    });
    this.#count(step);
  }

  total(): number {
    return Object.values(this.killed).reduce((sum, n) => sum + n, 0);
  }

  #count(kind: string): void {
    this.killed[kind] = (this.killed[kind] ?? 0) + 1;
  }
}

/** What a runtime does after an ADD: a failed one is followed by a DEL, which may have to wait for the agent. */
async function settle(rig: Rig, a: Attachment, code: number): Promise<void> {
  a.alive = code === 0;
  if (a.alive) return;
  assert.equal(await rig.call("DEL", a), 0, `DEL of ${a.id} after a failed ADD`);
}

Deno.test(`after ${kills} kills of agent and plugin in the middle of ADDs and DELs everything agrees`, async () => {
  const seed = Number(Deno.env.get("CRASH_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
  console.log(`seed ${seed}`);
  // What went wrong stands beside its seed, not a thousand lines below it.
  await killAndJudge(seeded(seed)).catch((error) => {
    console.log(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
    throw error;
  });
});

async function killAndJudge(random: () => number): Promise<void> {
  await using lab = await makeHosts(1, { prefix: "crash" });
  await using etcd = await startEtcd({ address: lab.serverAddress, netns: lab.wire.name });
  const host = lab.hosts[0]!;
  await linkPlugin(host);
  const rig = new Rig(host, etcd, random);
  const attachments: Attachment[] = [];
  for (let i = 0; i < pods; i++) {
    await host.runOk("ip", ["netns", "add", `pod${i}`]);
    attachments.push({ id: `c${i}x0`, netns: `/run/netns/pod${i}`, alive: false });
  }
  let generation = 0;
  /** The next sandbox in the same place, as after a restart of the pod. */
  const renew = (a: Attachment) => void (a.id = `${a.id.split("x")[0]}x${++generation}`);

  await rig.startAgent();
  for (const step of addSteps) {
    await rig.killAgent();
    await rig.startAgent(step);
    const a = attachments.find((x) => !x.alive) ?? attachments[0]!;
    if (a.alive) {
      assert.equal(await rig.call("DEL", a), 0);
      renew(a);
    }
    const [code] = await Promise.all([rig.call("ADD", a), rig.waitForDeathAt(step)]);
    assert.notEqual(code, 0, `ADD cannot succeed when the agent dies at "${step}"`);
    // The runtime's DEL comes while nobody answers: the plugin does it alone.
    await settle(rig, a, code);
    renew(a);
    await rig.startAgent();
  }
  while (rig.total() < kills) {
    const killsAgent = random() < 0.35;
    const delay = random() * (killsAgent ? 120 : 90);
    const calls = attachments.map(async (a) => {
      if (random() < 0.3) return;
      const killAfter = !killsAgent && random() < 0.5 && rig.total() < kills ? delay * random() * 1.3 : undefined;
      if (!a.alive) {
        renew(a);
        return await settle(rig, a, await rig.call("ADD", a, killAfter));
      }
      // A DEL that does not end well is called again.
      if (await rig.call("DEL", a, killAfter) !== 0) assert.equal(await rig.call("DEL", a), 0, `second DEL of ${a.id}`);
      a.alive = false;
    });
    if (killsAgent) {
      await new Promise((resolve) => setTimeout(resolve, delay));
      await rig.killAgent();
    }
    await Promise.all(calls);
    if (rig.agent!.isEnded) await rig.startAgent();
  }
  console.log(`kills: ${JSON.stringify(rig.killed)}`);
  for (const step of addSteps) assert.ok(rig.killed[step], `no kill at step ${step}`);

  await wait("the journal to be worked off", async () => (await rig.status())?.pending.length === 0, {
    deadlineMs: 40_000,
  });
  const alive = attachments.filter((a) => a.alive);
  const find = async () => {
    const dump = await etcd.dump();
    const links = (await host.runOk("ip", ["-o", "link", "show", "type", "veth"])).matchAll(/^\d+: (cali[^@:]+)/gm);
    const routes = await host.runOk("ip", ["-4", "route"]);
    const interfaces = [...links].map(([, name]) => ({
      name: name!,
      addresses: [...routes.matchAll(new RegExp(`^(\\S+) dev ${name} `, "gm"))].map(([, address]) => address!),
    }));
    return {
      dump,
      interfaces,
      wrong: judge(dump, { endpoints: true, interfaces: { [host.name]: interfaces }, nowMs: Date.now() }),
    };
  };
  await wait("everything to agree", async () => (await find()).wrong.length === 0, { deadlineMs: 20_000, everyMs: 200 })
    .catch(() => {}); // the asserts below say what is wrong
  const { dump, interfaces, wrong } = await find();
  assert.deepEqual(wrong, []);
  assert.deepEqual(interfaces.map((i) => i.name).sort(), alive.map((a) => `cali${a.id.slice(0, 11)}`).sort());
  const handles = [...dump.keys()].filter((k) => k.includes("/ipam/v2/handle/")).map((k) => k.split("/").pop());
  assert.deepEqual(handles.sort(), alive.map((a) => `k8s-pod-network.${a.id}`).sort());
}
