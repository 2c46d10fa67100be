import { runOk } from "../../lib/process.ts";
import { systemClock } from "../../lib/clock.ts";
import { KernelEye, seen } from "./kernel_eye.ts";
import type { PolicyHost } from "./policy_host.ts";
import { chainOfPolicy, endpoint, interfaceOf, memberOf, policy, portOf, type Stored } from "./policy_objects.ts";
import { type Cpu, cpuOf, used } from "./process_cost.ts";

/** How big the world is. */
export const size = { endpoints: 500, policies: 1_000 };

/** Times of one sort of change, and what the agent used for each. */
export interface Series {
  what: string;
  /** Sorted milliseconds from the beginning of the write to etcd to the kernel. */
  ms: number[];
  /** CPU of the agent and its children, milliseconds for one change. */
  cpu?: Cpu;
}

/** Writes the world of `size`, without a single remote endpoint. */
export async function fill(host: PolicyHost): Promise<void> {
  await host.put(Array.from({ length: size.policies }, (_, i) => policy(i)));
  await host.put(Array.from({ length: size.endpoints }, (_, i) => endpoint(i, true)));
}

/** A rule, an endpoint and a set member, one after another, each when the agent was at rest. The agent runs. */
export async function changes(host: PolicyHost, samples: number): Promise<Series[]> {
  using eye = new KernelEye(host.variant);
  return [
    await ruleChanges(host, eye, samples),
    ...await endpointChanges(host, eye, samples),
    ...await memberChanges(host, eye, samples),
  ];
}

async function ruleChanges(host: PolicyHost, eye: KernelEye, samples: number): Promise<Series> {
  const versions = new Map<number, number>();
  const series = await sampled("one rule changed", host, samples, async (k) => {
    const i = k % 10, version = (versions.get(i) ?? 0) + 1;
    versions.set(i, version);
    return await timed(host, eye.filterChanged(), [policy(i, version)]);
  });
  const rules = await host.rules();
  for (const [i, version] of versions) {
    const own = rules.filter((r) => r.startsWith(`-A ${chainOfPolicy(i)} `)).join("\n");
    const word = `--dports ${portOf(i, version)} `;
    if (!own.includes(word)) throw new Error(`policy ${i} is not at version ${version} in the kernel:\n${own}`);
  }
  return series;
}

async function endpointChanges(host: PolicyHost, eye: KernelEye, samples: number): Promise<Series[]> {
  const one = (k: number) => endpoint(size.endpoints + k, true);
  const added = await sampled("one endpoint added", host, samples, (k) => timed(host, eye.filterChanged(), [one(k)]));
  const rules = (await host.rules()).join("\n");
  for (let k = 0; k < samples; k++) {
    const chain = `cali-tw-${interfaceOf(size.endpoints + k)}`;
    if (!rules.includes("-A " + chain + " ")) throw new Error(chain + " is not in the kernel");
  }
  const removed = await sampled("one endpoint removed", host, samples, async (k) => {
    const look = eye.filterChanged(), began = performance.now();
    await host.remove([one(k)]);
    return await seen("the end of the endpoint", look, began);
  });
  return [added, removed];
}

/** Name of the row that tells how long etcd itself took for the writes of the row above it. */
export const answersOfEtcd = "  etcd's answer to that write";

async function memberChanges(host: PolicyHost, eye: KernelEye, samples: number): Promise<Series[]> {
  const set = await setOf(host, 0);
  // Remote endpoints of the namespace and application that policy 0 lets in.
  const number = (k: number) => 50 * 10 * (k + 1) + 50 * 3;
  const one = (k: number) => endpoint(number(k), false), answers: number[] = [];
  const series = await sampled("one set member added", host, samples, async (k) => {
    const began = performance.now(), member = memberOf(number(k), false);
    if (eye.hasMember(set, member)) throw new Error(`${member} is in ${set} already`);
    const written = host.put([one(k)]).then(() => answers.push(performance.now() - began));
    const ms = await seen(`member ${member} in ${set}`, () => eye.hasMember(set, member), began);
    await written;
    return ms;
  });
  await host.remove(Array.from({ length: samples }, (_, k) => one(k)));
  return [series, { what: answersOfEtcd, ms: answers.slice(2).sort((a, b) => a - b) }];
}

/** The set that the rule of a policy looks into. */
async function setOf(host: PolicyHost, i: number): Promise<string> {
  const rule = (await host.rules()).find((r) => r.startsWith(`-A ${chainOfPolicy(i)} `) && r.includes("--match-set"));
  return /--match-set (\S+)/.exec(rule ?? "")![1]!;
}

async function timed(host: PolicyHost, look: () => boolean, objects: Stored[]): Promise<number> {
  const began = performance.now();
  const written = host.put(objects);
  const ms = await seen("the change", look, began);
  await written;
  return ms;
}

/** @param one makes change `k` and answers how long it took. The first two are not counted. */
async function sampled(
  what: string,
  host: PolicyHost,
  samples: number,
  one: (k: number) => Promise<number>,
): Promise<Series> {
  const ms: number[] = [];
  let before = cpuOf(host.world.pid);
  const rest = 150;
  const idleCpu = await idle(host, rest * samples);
  for (let k = 0; k < samples; k++) {
    if (k === 2) before = cpuOf(host.world.pid);
    const took = await one(k);
    if (k >= 2) ms.push(took);
    await systemClock.sleep(rest);
  }
  const all = used(before, cpuOf(host.world.pid)), counted = samples - 2;
  const cpu = { own: Math.max(0, (all.own - idleCpu) / counted), children: all.children / counted };
  return { what, ms: ms.sort((a, b) => a - b), cpu };
}

/** CPU that the agent uses at rest in so many milliseconds, from one second of it. */
async function idle(host: PolicyHost, milliseconds: number): Promise<number> {
  const before = cpuOf(host.world.pid);
  await systemClock.sleep(1_000);
  return used(before, cpuOf(host.world.pid)).own * milliseconds / 1_000;
}

/** What the bare programs take for the same, in the same tables, with nobody else at work: the agent is stopped. */
export async function floors(host: PolicyHost, samples: number): Promise<Series[]> {
  const chain = chainOfPolicy(0), [rule] = (await host.rules()).filter((r) => r.startsWith(`-A ${chain} `));
  const restore = (family: "" | "6", port: number) => {
    const body = `-A ${chain} -p tcp -m multiport --dports ${port} -j RETURN`;
    const text = host.variant === "nft" ? `:${chain} - -\n${body}` : `-R ${chain} 1${body.slice(3 + chain.length)}`;
    return runOk(`ip${family}tables-${host.variant}-restore`, ["--noflush", "--wait", "10"], {
      stdin: `*filter\n${text}\nCOMMIT\n`,
    });
  };
  if (rule === undefined) throw new Error(`${chain} has no rules`);
  const program = `iptables-${host.variant}-restore`;
  return [
    await bare("/bin/true", samples, () => runOk("true", [])),
    await bare(`${program}, one rule`, samples, (k) => restore("", 100 + k)),
    await bare(
      "the same for both families at once",
      samples,
      (k) => Promise.all([restore("", 300 + k), restore("6", 300 + k)]),
    ),
  ];
}

async function bare(what: string, samples: number, one: (k: number) => Promise<unknown>): Promise<Series> {
  const ms: number[] = [];
  const before = cpuOf(Deno.pid);
  for (let k = 0; k < samples; k++) {
    const began = performance.now();
    await one(k);
    ms.push(performance.now() - began);
  }
  const all = used(before, cpuOf(Deno.pid));
  return { what, ms: ms.sort((a, b) => a - b), cpu: { own: all.own / samples, children: all.children / samples } };
}
