import { systemClock } from "../../lib/clock.ts";
import { runOk } from "../../lib/process.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { KernelEye, seen } from "./kernel_eye.ts";
import type { PolicyHost } from "./policy_host.ts";
import { chainOfPolicy, endpoint, freeEndpoint, memberOf } from "./policy_objects.ts";
import { cpuOf, memoryOf, used } from "./process_cost.ts";

/** A start with everything in the kernel already. */
export interface Restart {
  readyMs: number;
  /** Programs that were started, counted at another start, and which of them write. */
  started: number;
  wrote: string[];
  /** Rules in the kernel that differ afterwards, and notifications of routes, links, addresses and neighbours. */
  changedRules: number;
  notifications: number;
  /** Packets between two pods, from before the end of the old agent until the new one is ready. */
  sent: number;
  lost: number;
}

/**
 * kill -9 and start again, with traffic between two pods. The agent runs, before and afterwards.
 * @param first number of the first pod's interface; the next one is the other's.
 */
export async function restart(host: PolicyHost, first: number): Promise<Restart> {
  await using pair = await Pair.make(host, first);
  const before = await host.rules(), traffic = await pair.ping();
  const monitor = new Deno.Command("ip", { args: ["monitor", "link", "address", "route", "neigh"], stdout: "piped" })
    .spawn();
  const told = new Response(monitor.stdout).text();
  await host.world.stop("SIGKILL");
  const readyMs = await host.start();
  await systemClock.sleep(1_000);
  const { sent, lost } = await traffic();
  monitor.kill();
  // Neighbours of the pings come and go by themselves.
  const lines = (await told).split("\n").filter((l) => l !== "" && !/REACHABLE|STALE|DELAY|PROBE/.test(l));
  const after = new Set(await host.rules());
  await host.world.stop("SIGKILL");
  await host.start({ counted: true });
  await systemClock.sleep(1_000);
  const started = await host.starts.take();
  const wrote = started.filter((l) => /restore|ipset (add|del|create|destroy|swap)/.test(l));
  const changedRules = before.filter((r) => !after.has(r)).length;
  return { readyMs, started: started.length, wrote, changedRules, notifications: lines.length, sent, lost };
}

/** Two pods of the host with namespaces of their own. */
class Pair implements AsyncDisposable {
  private constructor(private readonly spaces: [Namespace, Namespace], private readonly first: number) {}

  static async make(host: PolicyHost, first: number): Promise<Pair> {
    using eye = new KernelEye(host.variant);
    const look = eye.filterChanged(), began = performance.now();
    await host.put([freeEndpoint(first), freeEndpoint(first + 1)]);
    await seen("the pods' chains", look, began);
    const spaces: [Namespace, Namespace] = [await makeNamespace("bp-a"), await makeNamespace("bp-b")];
    for (const [k, space] of spaces.entries()) {
      const i = first + k;
      await runOk("ip", ["-n", host.podsName, "link", "set", `p${i}`, "netns", space.name, "name", "eth0"]);
      await space.ip(`addr add ${memberOf(i, true)}/32 dev eth0`);
      await space.ip("link set eth0 up");
      await space.ip("route add 169.254.1.1 dev eth0");
      await space.ip("route add default via 169.254.1.1 dev eth0");
    }
    return new Pair(spaces, first);
  }

  /** Pings 100 times a second until the returned function is called. */
  async ping(): Promise<() => Promise<{ sent: number; lost: number }>> {
    const [a] = this.spaces;
    const child = new Deno.Command("nsenter", {
      args: [`--net=${a.path}`, "ping", "-n", "-i", "0.01", memberOf(this.first + 1, true)],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const out = new Response(child.stdout).text();
    await systemClock.sleep(1_000);
    return async () => {
      child.kill("SIGINT");
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(await out) ?? [];
      return { sent: Number(sent), lost: Number(sent) - Number(received) };
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const space of this.spaces) await space[Symbol.asyncDispose]();
  }
}

/** Share of a core at rest, in percent, over so many seconds. */
export async function idleShare(host: PolicyHost, seconds: number): Promise<number> {
  const before = cpuOf(host.world.pid);
  await systemClock.sleep(seconds * 1_000);
  const { own, children } = used(before, cpuOf(host.world.pid));
  return (own + children) / seconds / 10;
}

/** Sorted milliseconds until what was done by hand is undone: a chain emptied, a set's member taken out. */
export async function drift(host: PolicyHost, times: number): Promise<{ chain: number[]; member: number[] }> {
  using eye = new KernelEye(host.variant);
  const chain: number[] = [], member: number[] = [];
  const rules = await host.rules();
  const set = /--match-set (\S+)/.exec(rules.find((r) => r.startsWith(`-A ${chainOfPolicy(0)} `))!)![1]!;
  const one = endpoint(50 * 10 * 9 + 150, false), address = memberOf(50 * 10 * 9 + 150, false);
  await host.put([one]);
  await seen("the member", () => eye.hasMember(set, address), performance.now());
  const program = `iptables-${host.variant}`;
  for (let k = 0; k < times; k++) {
    const name = chainOfPolicy(k);
    const own = rules.filter((r) => r.startsWith(`-A ${name} `)).length;
    await runOk(program, ["-w", "-F", name]);
    const look = eye.filter4Changed(), began = performance.now();
    await seen(`${own} rules of ${name}`, look, began);
    chain.push(performance.now() - began);
    await runOk("ipset", ["del", set, address]);
    member.push(await seen("the member", () => eye.hasMember(set, address), performance.now()));
    await systemClock.sleep(300);
  }
  await host.settled("every chain", (now) => now.length === rules.length);
  await host.remove([one]);
  return { chain: chain.sort((a, b) => a - b), member: member.sort((a, b) => a - b) };
}

/** A start of the agent with many endpoints of other nodes in etcd, and an empty kernel. */
export interface Sync {
  readyMs: number;
  cpuMs: number;
  peakMiB: number;
  /** At rest, 10 s later. */
  restMiB: number;
}

/** @param remote so many endpoints of other nodes beside what etcd has. The agent is stopped before; it runs afterwards. */
export async function fullSync(host: PolicyHost, remote: number): Promise<Sync> {
  await host.put(Array.from({ length: remote }, (_, i) => endpoint(i, false)));
  await host.emptyKernel();
  await Deno.remove(`${host.world.dir}/state`, { recursive: true });
  const readyMs = await host.start();
  const { own, children } = cpuOf(host.world.pid);
  await systemClock.sleep(10_000);
  const { now, peak } = memoryOf(host.world.pid);
  return { readyMs, cpuMs: own + children, peakMiB: peak, restMiB: now };
}
