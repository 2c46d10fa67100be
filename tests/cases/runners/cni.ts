import { isObject, type Json } from "../../../lib/json64.ts";
import { type AgentWorld, makeAgentWorld, type PluginResult, putCluster } from "../../lab/agent_world.ts";
import { makeNamespace, type Namespace } from "../../lab/namespaces.ts";
import { wait } from "../../lab/wait.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";
import { difference, movedBlocks } from "./_cni_compare.ts";
import { pureAnswer } from "./_cni_pure.ts";
import { expectedNetwork, keysOf, networkOf } from "./_cni_world.ts";

interface Step {
  command: string;
  containerID?: string;
  args?: string;
  ifName?: string;
  netns?: string;
  conf?: Record<string, unknown>;
  stdin?: string;
  plugin?: string;
  unsetEnv?: string[];
  setDatastoreReady?: boolean;
  deleteKey?: string;
}

interface RunInput {
  pools: { name: string; cidr: string; blockSize: number }[];
  node: string;
  conf?: Record<string, unknown>;
  namespace?: Record<string, unknown>;
  pod?: Record<string, unknown>;
  steps: Step[];
}

interface StepAnswer {
  exit: number;
  stdout: Json;
}

interface Expect {
  steps: StepAnswer[];
  keys: Record<string, Json>;
  network: Record<string, Json>;
}

let world: AgentWorld | undefined;

/**
 * Runs cni.json: the pure questions directly, the runs through the plugin and a running agent, with a real etcd, network
 * namespaces and a Kubernetes API over HTTPS. What varies is compared by its form; see _cni_compare.ts and _cni_world.ts
 * for what the recording lacks because no agent ran beside Calico's plugin.
 */
export const runner: CaseRunner = {
  // deno-lint-ignore require-await -- the world is made when the first run needs it
  async start() {
    return {
      async [Symbol.asyncDispose]() {
        await world?.[Symbol.asyncDispose]();
        world = undefined;
      },
    };
  },
  async run(one) {
    const pure = await pureAnswer(one.input);
    if (pure !== undefined) return outcome(difference("", one.expect as Json, pure), one);
    world ??= await makeAgentWorld("h5");
    return await runSteps(world, one);
  },
};

function outcome(text: string, one: Case): Outcome {
  if (text !== "") return { is: "failed", difference: text };
  return one.differs ? { is: "differs", reason: one.differs } : { is: "passed" };
}

async function runSteps(world: AgentWorld, one: Case): Promise<Outcome> {
  const input = one.input as unknown as RunInput;
  const expect = one.expect as unknown as Expect;
  await using stack = new AsyncDisposableStack();
  const pods = { pod1: stack.use(await makeNamespace("h5a")), pod2: stack.use(await makeNamespace("h5b")) };
  const kubeconfig = await prepare(world, input);
  // The recording had no agent: this one forwards nothing, so that the host's own switches stay as they were.
  await world.start({ node: input.node, env: { FELIX_IPFORWARDING: "Disabled" } });
  try {
    const steps: StepAnswer[] = [];
    for (const step of input.steps) {
      const answer = await runStep(world, input, step, pods, kubeconfig);
      if (answer) steps.push(answer);
    }
    const keys = await keysOf(world);
    const network = await networkOf(world, pods, expect.network);
    const got = placeholders({ steps, keys, network } as unknown as Json, pods);
    const text = compare(one, input, got as unknown as Expect);
    return outcome(text === "" ? "" : `${text}\nagent: ${world.log().split("\n").slice(-4).join("\n")}`, one);
  } finally {
    await world.stop();
    await removeLinks(world);
  }
}

/** An empty etcd with cluster, node and pools, and an API with exactly these objects. */
async function prepare(world: AgentWorld, input: RunInput): Promise<string | undefined> {
  await world.etcd.etcdctl("del", "--prefix", "/calico/");
  await putCluster(world, input.node, input.pools);
  await Deno.remove(`${world.dir}/state`, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  const policy = input.conf?.policy as { type?: string } | undefined;
  const asks = policy?.type === "k8s" || input.conf?.kubernetes !== undefined ||
    input.steps.some((s) => s.conf?.kubernetes !== undefined || isObject(s.conf?.policy));
  if (!asks) return undefined;
  const api = await world.api();
  for (const object of [{ kind: "Namespace", apiVersion: "v1" }, { kind: "Pod", apiVersion: "v1" }]) {
    await forgetAll(world, object.kind);
  }
  for (const object of [input.namespace, input.pod]) if (object) await putObject(world, object);
  return api.kubeconfig;
}

const stored = new Map<string, { kind: string; namespace?: string; name: string }>();

async function putObject(world: AgentWorld, object: Record<string, unknown>): Promise<void> {
  const { kind, metadata } = object as { kind: string; metadata: { name: string; namespace?: string } };
  await (await world.api()).put(object as never);
  stored.set(`${kind} ${metadata.namespace} ${metadata.name}`, { kind, ...metadata });
}

async function forgetAll(world: AgentWorld, kind: string): Promise<void> {
  for (const [id, object] of stored) {
    if (object.kind !== kind) continue;
    await (await world.api()).delete(`${kind.toLowerCase()}s`, object.namespace, object.name);
    stored.delete(id);
  }
}

async function runStep(
  world: AgentWorld,
  input: RunInput,
  step: Step,
  pods: { pod1: Namespace; pod2: Namespace },
  kubeconfig: string | undefined,
): Promise<StepAnswer | undefined> {
  if (step.command === "") return void await changeEtcd(world, step);
  const paths: Record<string, string | undefined> = {
    pod1: pods.pod1.path,
    pod2: pods.pod2.path,
    gone: "/run/netns/h5-gone",
    none: undefined,
  };
  const result = await world.call({
    command: step.command,
    containerId: step.containerID,
    args: step.args,
    ifName: step.ifName,
    netns: paths[step.netns ?? "pod1"],
    config: step.stdin ?? configOf(world, input, step, kubeconfig),
    plugin: step.plugin,
    unset: step.unsetEnv,
  });
  return { exit: result.code, stdout: stdoutOf(result) };
}

function stdoutOf({ stdout, json }: PluginResult): Json {
  return Object.keys(json).length > 0 ? json as Json : stdout.trim();
}

/** Writes to etcd beside the agent, and waits until the agent has read it. */
async function changeEtcd(world: AgentWorld, step: Step): Promise<void> {
  if (step.setDatastoreReady !== undefined) {
    const spec = { datastoreReady: step.setDatastoreReady };
    await world.put({ kind: "ClusterInformation", metadata: { name: "default" }, spec });
  }
  if (step.deleteKey !== undefined) await world.etcd.etcdctl("del", step.deleteKey);
  const { header } = JSON.parse(await world.etcd.etcdctl("get", "x", "-w", "json")) as { header: { revision: number } };
  await wait("the agent to see the change", async () => {
    const { body } = await world.get("/v1/status");
    return (body as { revision: number }).revision >= header.revision;
  });
}

function configOf(
  world: AgentWorld,
  input: RunInput,
  step: Step,
  kubeconfig: string | undefined,
): Record<string, unknown> {
  const base = {
    ...{ name: "net-x", type: "calico", cniVersion: "1.0.0", datastore_type: "etcdv3", log_level: "error" },
    ...{ etcd_endpoints: world.etcd.endpoint, nodename: input.node, nodename_file_optional: true },
    ipam_lock_file: `${world.dir}/ipam.lock`,
    ipam: { type: "calico-ipam" },
  };
  const merged: Record<string, unknown> = { ...base, ...input.conf, ...step.conf };
  const policy = merged.policy as { type?: string } | undefined;
  if (kubeconfig && (policy?.type === "k8s" || merged.kubernetes !== undefined)) {
    merged.kubernetes = { ...merged.kubernetes as Record<string, unknown>, kubeconfig };
  }
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null));
}

/** Names that a run gives to what it makes become the recording's stand-ins. */
function placeholders(got: Json, pods: { pod1: Namespace; pod2: Namespace }): Json {
  const text = JSON.stringify(got).replaceAll(pods.pod1.path, "<netns>/pod1").replaceAll(
    pods.pod2.path,
    "<netns>/pod2",
  );
  return JSON.parse(text) as Json;
}

/** What of a run is not as it should be; "" = nothing. */
function compare(one: Case, input: RunInput, got: Expect): string {
  const expect = one.expect as unknown as Expect;
  const isMtuAsked = JSON.stringify([input.conf, input.steps]).includes('"mtu"');
  // Calico's plugin would have read the agent's MTU file, had there been an agent.
  if (!isMtuAsked) got.steps.forEach((s) => dropMtu(s.stdout));
  const moved = movedBlocks(got as unknown as Json, one.expect as Json, input.pools) as unknown as Expect;
  if (one.differs) return better(one, expect, moved);
  return [
    ...expect.steps.map((step, i) => differenceOfStep(i, step, moved.steps[i])),
    differenceOfState(expect, moved, false),
  ].filter((text) => text !== "").join("\n");
}

function dropMtu(stdout: Json): void {
  if (!isObject(stdout) || !Array.isArray(stdout.interfaces)) return;
  for (const i of stdout.interfaces) if (isObject(i)) delete i.mtu;
}

function differenceOfStep(i: number, expect: StepAnswer, got: StepAnswer | undefined): string {
  const short = ({ exit, stdout }: StepAnswer): Json =>
    exit === 0 ? { exit, stdout } : { exit, code: isObject(stdout) ? stdout.code ?? null : null };
  return difference(`steps[${i}]`, short(expect), got && short(got));
}

/** @param fewerBlocks a block that Calico claimed for an ADD that then failed need not be there. */
function differenceOfState(expect: Expect, got: Expect, fewerBlocks: boolean): string {
  const keys = Object.fromEntries(
    Object.entries(expect.keys).filter(([key, value]) =>
      !fewerBlocks || key in got.keys || !isUnused(key, value, expect.keys)
    ),
  );
  const sorted = (network: Record<string, Json>) => ({
    ...network,
    hostRoutes: [...network.hostRoutes as string[]].sort(),
  });
  return [
    difference("keys", keys, got.keys),
    difference("network", sorted(expectedNetwork(expect.network, expect.keys)), sorted(got.network)),
  ].filter((text) => text !== "").join("\n");
}

function isUnused(key: string, value: Json, keys: Record<string, Json>): boolean {
  if (key.includes("/assignment/")) return Object.keys((value as { used: object }).used).length === 0;
  const block = /\/host\/[^/]+(\/ipv[46])(\/block\/.*)$/.exec(key);
  const of = block && `/calico/ipam/v2/assignment${block[1]}${block[2]}`;
  return of !== null && keys[of] !== undefined && isUnused(of, keys[of]!, keys);
}

/** Cases where Calico is worse on purpose of ours: that our answer is the better one that the reason describes. */
function better(one: Case, expect: Expect, got: Expect): string {
  if (/live attachment a second address/.test(one.differs!)) return answersAsBefore(got);
  if (/serves it/.test(one.differs!)) return serves(got);
  if (/serves them/.test(one.differs!)) return servesVerbs(one, expect, got);
  return sameButForCodes(expect, got);
}

function answersAsBefore(got: Expect): string {
  const [first, ...more] = got.steps;
  const addresses = Object.values(got.keys).flatMap((v) => isObject(v) && isObject(v.used) ? Object.keys(v.used) : []);
  return [
    ...more.map((step, i) => difference(`steps[${i + 1}]`, first as unknown as Json, step as unknown as Json)),
    addresses.length === 1 ? "" : `addresses in use: ${addresses.join(", ")}`,
  ].filter((text) => text !== "").join("\n");
}

function serves(got: Expect): string {
  const bad = got.steps.filter(({ exit, stdout }) => exit !== 0 || !isObject(stdout) || !Array.isArray(stdout.ips));
  return bad.length === 0 ? "" : `not served: ${JSON.stringify(bad)}`;
}

/** STATUS and GC of 1.1.0 succeed, CHECK of what is not there fails, older versions do not know the verbs. */
function servesVerbs(one: Case, expect: Expect, got: Expect): string {
  const { steps } = one.input as unknown as RunInput;
  return steps.map((step, i) => {
    const { exit, stdout } = got.steps[i]!;
    const code = isObject(stdout) ? stdout.code : undefined;
    const version = String(step.conf?.cniVersion ?? "1.0.0");
    const wrong = `steps[${i}] ${step.command} ${version}: exit ${exit}, ${JSON.stringify(stdout)}`;
    if (step.command === "VERSION") {
      const all = isObject(stdout) && Array.isArray(stdout.supportedVersions) ? stdout.supportedVersions : [];
      return exit === 0 && all.includes("1.1.0") && all.includes("0.3.1") ? "" : wrong;
    }
    if (version === "1.1.0" && (step.command === "STATUS" || step.command === "GC")) return exit === 0 ? "" : wrong;
    if (step.command === "CHECK" && version >= "0.4.0") return exit === 1 && Number(code) >= 100 ? "" : wrong;
    return differenceOfStep(i, expect.steps[i]!, got.steps[i]);
  }).filter((text) => text !== "").join("\n");
}

/** Everything as recorded but that our error codes say more than 999, and that a failed ADD claims no block. */
function sameButForCodes(expect: Expect, got: Expect): string {
  const steps = expect.steps.map((step, i) => {
    const mine = got.steps[i];
    const code = mine && isObject(mine.stdout) ? Number(mine.stdout.code) : 0;
    const isOther = step.exit !== 0 && isObject(step.stdout) && step.stdout.code === 999;
    if (!isOther) return differenceOfStep(i, step, mine);
    return mine?.exit === step.exit && code > 0 && code !== 999 ? "" : `steps[${i}]: ${JSON.stringify(mine)}`;
  });
  return [...steps, differenceOfState(expect, got, true)].filter((text) => text !== "").join("\n");
}

async function removeLinks(world: AgentWorld): Promise<void> {
  const links = await world.host.ipJson<{ ifname: string }[]>("link show");
  for (const { ifname } of links) if (/^(cali|tap)/.test(ifname)) await world.host.ip(`link del ${ifname}`);
}
