import { runOk } from "../../lib/process.ts";
import { keepArtefacts } from "../lab/artefacts.ts";
import { Cluster, makeCluster } from "../lab/cluster.ts";
import type { Pod } from "../lab/containerd.ts";
import type { Story } from "./story.ts";

/** What the two pods of each host are, in the order of the hosts. */
const roles = ["front", "api", "db"];

/** The role of a pod, by its number from 0. */
export const roleOf = (pod: number): string => roles[pod >> 1]!;

/** How packets travel between the hosts: BIRD's plain routes, or the agent's VXLAN and no BIRD at all. */
export const modes = ["bgp", "vxlan"] as const;
/** One of them. */
export type Mode = typeof modes[number];

const environment: Record<Mode, Record<string, string>> = {
  bgp: {},
  vxlan: { CALICO_NETWORKING_BACKEND: "vxlan", CALICO_IPV4POOL_VXLAN: "Always" },
};

/** Everything that stands during the demo. */
export interface World extends Cluster {
  /** web-1 to web-6, two a host. */
  pods: Pod[];
  mode: Mode;
}

/** Makes the world, step by step; what was made goes again when a step fails. */
export async function makeWorld(story: Story, keep: boolean, mode: Mode): Promise<World> {
  const cluster = await makeCluster({
    ...{ hosts: 3, prefix: "demo", outlive: keep, onStep: (what) => story.step(what) },
    node: { env: environment[mode] },
  });
  const { hosts } = cluster.lab;
  for (const host of hosts) story.say(`${host.name}  ${host.address}  (process 1 is ${host.pid} here)`);
  story.say(`etcd  ${cluster.etcd.endpoint}\nKubernetes API  ${cluster.api.url}`);
  story.step("six pods through containerd, as a kubelet would start them");
  try {
    const run = (i: number) => cluster.runPod(i >> 1, `web-${i + 1}`, undefined, { role: roleOf(i) });
    const perHost = await Promise.all(hosts.map(async (_, i) => [await run(2 * i), await run(2 * i + 1)]));
    const pods = perHost.flat();
    for (const [i, { name, addresses }] of pods.entries()) {
      story.say(`${name}  ${hosts[i >> 1]!.name}  ${addresses.join(" ").padEnd(15)} role=${roleOf(i)}`);
    }
    return { ...cluster, pods, mode };
  } catch (error) {
    story.say(`logs, rules and routes are in ${await keepArtefacts("demo", cluster.lab)}`);
    if (!keep) await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** Names of anything of this lab that is still there: namespaces, mounts, control groups, files, processes. */
export async function leftovers(prefix: string): Promise<string[]> {
  const left: string[] = [];
  for (const line of (await runOk("ip", ["netns", "list"])).split("\n")) {
    if (line.startsWith(prefix)) left.push(`network namespace ${line}`);
  }
  for (const line of (await Deno.readTextFile("/proc/self/mounts")).split("\n")) {
    if (line.includes(prefix)) left.push(`mount ${line.split(" ")[1]}`);
  }
  const folders = await runOk("find", ["/sys/fs/cgroup", "/dev/shm", "-maxdepth", "3", "-name", `${prefix}*`]);
  left.push(...folders.split("\n").filter((f) => f !== ""));
  for await (const entry of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(entry.name) || Number(entry.name) === Deno.pid) continue;
    const words = await Deno.readTextFile(`/proc/${entry.name}/cmdline`).catch(() => "");
    if (words.includes(prefix)) left.push(`process ${entry.name}: ${words.replaceAll("\0", " ").slice(0, 60)}`);
  }
  return left;
}
