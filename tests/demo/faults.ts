import { namespace } from "../lab/cluster.ts";
import type { Pod } from "../lab/containerd.ts";
import { wait } from "../lab/wait.ts";
import { birdState } from "./looks.ts";
import type { Story } from "./story.ts";
import { pingFor } from "./traffic.ts";
import type { World } from "./world.ts";

/** The faults of the demo: an agent killed, a pod deleted while etcd is frozen. */
export async function faults(story: Story, world: World): Promise<void> {
  await killAgent(story, world);
  await deleteWithoutEtcd(story, world);
}

/** kill -9 of the agent of h1 while a pod there is pinged; BIRD and routes must not notice. */
async function killAgent(story: Story, world: World): Promise<void> {
  story.step("kill -9 of h1's agent, with traffic to and from its pods");
  const host = world.lab.hosts[0]!, node = world.nodes[0]!;
  const [here, there] = [world.pods[0]!, world.pods[2]!];
  const before = await birdState(host.pid);
  const [toThere, toHere] = [pingFor(here, there, 4), pingFor(there, here, 4)];
  await node.process.kill("SIGKILL");
  story.say(`tortie on ${host.name} is gone`);
  const during = await birdState(host.pid);
  if (world.mode === "bgp") {
    story.check("its BIRD runs on", during !== undefined && during.bird === before?.bird, `process ${during?.bird}`);
  }
  await node.start();
  story.say(`tortie on ${host.name} is ready again`);
  for (const [name, loss] of [["out", await toThere], ["in", await toHere]] as const) {
    story.check(
      `pings ${name} of ${host.name} lost nothing`,
      loss.received === loss.sent,
      `${loss.received} of ${loss.sent}`,
    );
  }
  if (world.mode !== "bgp") return;
  const after = await birdState(host.pid);
  story.check("BIRD was not restarted, all sessions are up", after?.bird === before?.bird && after?.down.length === 0);
}

/** StopPodSandbox while etcd answers nothing; the address must be free soon after etcd is back. */
async function deleteWithoutEtcd(story: Story, world: World): Promise<void> {
  story.step("a pod is deleted while etcd is frozen");
  const pod = world.pods[1]!;
  world.etcd.stop();
  try {
    const start = performance.now();
    await pod.stop();
    const ms = Math.round(performance.now() - start);
    story.check(`containerd's DEL of ${pod.name} succeeds`, ms < 3000, `${ms} ms`);
  } finally {
    world.etcd.cont();
  }
  const start = performance.now();
  const freed = await wait(`${pod.name} to be gone from etcd`, async () => !await isStored(world, pod), {
    deadlineMs: 10_000,
    everyMs: 200,
  }).then(() => true, () => false);
  const after = `${((performance.now() - start) / 1000).toFixed(1)} s after etcd was back`;
  story.check("its address and endpoint are free", freed, after);
  await pod.remove();
  await world.api.delete("pods", namespace, pod.name);
}

/** True while etcd has the pod's endpoint, or a block in which its sandbox holds an address. */
async function isStored(world: World, pod: Pod): Promise<boolean> {
  for (const [key, value] of await world.etcd.dump("/calico/")) {
    if (key.includes("/workloadendpoints/") && JSON.parse(value).spec?.pod === pod.name) return true;
    if (key.startsWith("/calico/ipam/v2/") && (key.includes(pod.id) || value.includes(pod.id))) return true;
  }
  return false;
}
