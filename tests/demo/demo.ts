/**
 * `deno task demo [--mode=bgp|vxlan] [--keep]`: three hosts, six pods, and what an operator would try. Ends with a count of checks; exit
 * code 1 when one failed. `--keep` leaves everything standing and says how to enter it; `--end` takes that away.
 * `--kubernetes`: two hosts of a Kubernetes cluster, a real one with KUBERNETES_BINARIES.
 * `--mode=ipip|wireguard`: two hosts and what is on the wire between them, in QEMU where the kernel has no such tunnel.
 */
import { messageOf } from "../../lib/problem.ts";
import { keepArtefacts } from "../lab/artefacts.ts";
import { binary } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";
import { faults } from "./faults.ts";
import { endKept, howToEnter } from "./keep.ts";
import { kubernetesDemo } from "./kubernetes.ts";
import { birdState, look } from "./looks.ts";
import { policyMatrix } from "./policy.ts";
import { Story } from "./story.ts";
import { reachability, reachText } from "./traffic.ts";
import { overlay } from "./overlay.ts";
import { tunnelDemo } from "./tunnel_modes.ts";
import { tunnelModes } from "./tunnels.ts";
import { leftovers, makeWorld, type Mode, modes, World } from "./world.ts";

async function main(args: string[]): Promise<number> {
  const strange = args.find((a) => !["--keep", "--end", "--kubernetes"].includes(a) && !a.startsWith("--mode="));
  const said = args.find((a) => a.startsWith("--mode="))?.slice("--mode=".length) ?? "bgp";
  const mode = modes.find((m) => m === said), tunnel = tunnelModes.find((m) => m === said);
  if (strange !== undefined || !(mode ?? tunnel)) {
    const all = [...modes, ...tunnelModes].join("|");
    console.error(
      `demo: unknown option ${strange ?? `--mode=${said}`}; there are --mode=${all}, --kubernetes, --keep and --end`,
    );
    return 2;
  }
  if (Deno.uid() !== 0) {
    console.error("demo: it makes network namespaces and containers: run it as root");
    return 2;
  }
  if (args.includes("--end")) return await endKept();
  const keep = args.includes("--keep"), story = new Story();
  if (keep && args.includes("--kubernetes")) {
    console.error("demo: --kubernetes cannot be kept");
    return 2;
  }
  if (tunnel && keep) {
    console.error("demo: what is shown in QEMU cannot be kept");
    return 2;
  }
  if (!await isBuilt() && !await build(story)) return 1;
  if (args.includes("--kubernetes")) return await kubernetesDemo(story);
  if (!mode) return await tunnelDemo(tunnel!);
  await tell(story, keep, mode);
  return story.end();
}

async function tell(story: Story, keep: boolean, mode: Mode): Promise<void> {
  let world: World | undefined;
  try {
    world = await makeWorld(story, keep, mode);
    if (mode === "bgp") await bgpUp(story, world);
    await everyPair(story, world);
    if (mode === "vxlan") await overlay(story, world);
    await look(story, world);
    await policyMatrix(story, world);
    await faults(story, world);
  } catch (error) {
    story.check("the demo went through", false, messageOf(error));
  }
  if (world && story.failures.length > 0) {
    story.say(`logs, rules and routes are in ${await keepArtefacts("demo", world.lab)}`);
  }
  if (!world) return;
  if (keep) return story.say(`\n${await howToEnter(world)}`);
  story.step("cleaning up");
  await world[Symbol.asyncDispose]();
  const left = await leftovers(world.lab.prefix);
  story.check("nothing is left of it", left.length === 0, left.join("; "));
}

async function bgpUp(story: Story, world: World): Promise<void> {
  story.step("BGP: each host's BIRD peers with the two others");
  for (const host of world.lab.hosts) {
    const state = await wait(`the BGP sessions of ${host.name}`, async () => {
      const state = await birdState(host.pid);
      return state?.down.length === 0 ? state : undefined;
    }, { deadlineMs: 15_000, everyMs: 100 });
    story.check(`${host.name}: all sessions are established`, true, `BIRD is process ${state.bird} there`);
  }
}

async function everyPair(story: Story, world: World): Promise<void> {
  story.step("ping and TCP between every two pods, both ways");
  let failed: string[] = [];
  await wait("traffic between all pods", async () => {
    const reach = await reachability(world.pods);
    failed = reach.filter((r) => !r.ping || !r.http).map((r) => `${r.from} -> ${r.to}: ${reachText(r)}`);
    return failed.length === 0;
  }, { deadlineMs: 5000, everyMs: 200 }).catch(() => {}); // what failed is said by the check
  const pairs = world.pods.length * (world.pods.length - 1);
  story.check(`${pairs} ordered pairs, ping and HTTP each`, failed.length === 0, failed.join(", "));
}

/** The binary is there and newer than every source; one that was named is taken as it is. */
async function isBuilt(): Promise<boolean> {
  if (Deno.env.has("TORTIE_BINARY")) return true;
  const root = new URL("../..", import.meta.url).pathname;
  const built = await Deno.stat(binary).then((s) => s.mtime!.getTime(), () => 0);
  const newest = async (dir: string): Promise<number> => {
    let time = 0;
    for await (const e of Deno.readDir(dir)) {
      if (e.isDirectory) time = Math.max(time, await newest(`${dir}/${e.name}`));
      else if (e.name.endsWith(".ts")) time = Math.max(time, (await Deno.stat(`${dir}/${e.name}`)).mtime!.getTime());
    }
    return time;
  };
  for await (const e of Deno.readDir(root)) {
    if (e.isDirectory && !/^(\..*|build|dist|docs|tests)$/.test(e.name) && await newest(root + e.name) > built) {
      return false;
    }
  }
  return built > (await Deno.stat(`${root}main.ts`)).mtime!.getTime();
}

async function build(story: Story): Promise<boolean> {
  story.step("building the binary");
  const { success } = await new Deno.Command(Deno.execPath(), { args: ["task", "--quiet", "build"] }).spawn().status;
  return success;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
