import { type Clock, systemClock } from "../lib/clock.ts";
import { silentLog } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { felixTables, heldTables, sweepNftTables, sweepTable, tableText } from "../kernel/netfilter/sweep.ts";
import { heldSets, sweepSets } from "../kernel/netfilter/sweep_sets.ts";
import { isOwnSet, ownPrefixes } from "../agent/netfilter/names.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { Bird, birdPaths } from "../routing/bird.ts";
import { accountKubeconfig, environmentFile, manifestFile } from "./install_items.ts";
import { planUninstall } from "./install_plan.ts";
import { lookAt, readManifest, removeIfEmpty, removeIfThere, removeTree } from "./installation.ts";
import { findLeftovers, foreignBirdRuns, removeLeftovers, tellLeftovers } from "./leftovers.ts";
import { forgetUnits, hasSystemd, stopUnits } from "./systemctl.ts";

/** What `tortie uninstall` is told. */
export interface UninstallOptions {
  /** "" = this host; else only files below it are touched. */
  root: string;
  dryRun: boolean;
  force: boolean;
  /** Only the processes end and the files go: pods, rules, routes and state stay, for Calico to take them over. */
  keepPods: boolean;
}

/** What a running node keeps besides what was installed. */
const stateFolders = ["/var/lib/tortie", "/run/tortie", "/run/calico/endpoint-status"];
const stateFiles = ["/var/lib/calico/nodename", "/var/lib/calico/mtu", "/run/calico/bird.ctl", "/run/calico/bird6.ctl"];
const sharedFolders = ["/etc/tortie", "/var/lib/calico", "/run/calico"];

/**
 * Removes everything of ours from this host: first the CNI configuration, so that the runtime asks us no more, then the
 * processes, then what they left in the kernel, then all files. The datastore keeps the Node and its addresses; IP
 * forwarding stays on, for others may need it.
 * @returns what was done, and what had to stay and why.
 */
export async function uninstallHost(options: UninstallOptions): Promise<{ done: string[]; kept: string[] }> {
  const { root, dryRun } = options;
  const done: string[] = [];
  const manifest = await readManifest(root);
  const present = await lookAt(root, Object.keys(manifest.items));
  const plan = planUninstall(manifest, present, new Set([environmentFile, accountKubeconfig]), options.force);
  const kept = plan.kept.map((path) => `${path} was changed since it was installed and stays`);
  const first = plan.remove.filter((path) => /\.(conf|conflist|json)$/.test(path));
  const act = async (told: string, work: () => Promise<unknown>) => {
    done.push(told);
    if (!dryRun) await work();
  };
  if (root === "" && !await hasSystemd() && !options.force) await refuseWhileRunning();
  for (const path of first) await act(`remove ${path}`, () => removeIfThere(root + path));
  if (root === "" && options.keepPods) await leaveHost(dryRun, done);
  else if (root === "") kept.push(...await clearHost(dryRun, done));
  for (const path of plan.remove.filter((p) => !first.includes(p))) {
    await act(`remove ${path}`, () => removeIfThere(root + path));
  }
  for (const [backup, path] of plan.restore) {
    await act(`put back ${path}`, () => Deno.rename(root + backup, root + path));
  }
  if (!options.keepPods) await removeState(root, plan.kept.length > 0, act);
  else if (plan.kept.length === 0) await act("forget what was installed", () => removeIfThere(root + manifestFile));
  for (const folder of [...manifest.folders].reverse()) if (!dryRun) await removeIfEmpty(root + folder);
  if (root === "" && !dryRun && await hasSystemd()) await forgetUnits();
  return { done, kept };
}

type Act = (told: string, work: () => Promise<unknown>) => Promise<void>;

/** @param keepManifest something of ours had to stay, so that a later uninstall must still know of it. */
async function removeState(root: string, keepManifest: boolean, act: Act): Promise<void> {
  const there = async (path: string) => (await lookAt(root, [path])).get(path)!.is !== "absent";
  for (const file of stateFiles) {
    if (await there(file)) {
      await act(`remove ${file}`, () => removeIfThere(root + file));
    }
  }
  for (const folder of stateFolders) {
    if (!await there(folder)) continue;
    if (!keepManifest || !manifestFile.startsWith(folder)) {
      await act(`remove ${folder}`, () => removeTree(root + folder));
    }
  }
  for (const folder of sharedFolders) {
    if (await there(folder)) await act(`remove ${folder} if it is empty`, () => removeIfEmpty(root + folder));
  }
}

/** An agent that systemd does not know would make everything anew. */
async function refuseWhileRunning(): Promise<void> {
  const path = "/run/tortie/agent.sock";
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return;
    throw error;
  }
  throw new Problem({
    code: "not-ready",
    what: "an agent is running",
    where: path,
    todo: "Stop it first, or use --force",
  });
}

/** Ends processes as for an upgrade: what stands in the kernel stays, and peers keep the routes for a graceful restart. */
async function leaveHost(dryRun: boolean, done: string[]): Promise<void> {
  done.push("stop tortie and its BIRD, and leave pods, rules and routes as they are");
  if (dryRun) return;
  if (await hasSystemd()) await stopUnits(() => endBird(systemClock, "keep"));
  else await endBird(systemClock, "keep");
}

/** Ends processes and removes what is in the kernel; answers what had to stay. */
async function clearHost(dryRun: boolean, done: string[]): Promise<string[]> {
  if (await hasSystemd()) {
    done.push("stop and disable tortie.service, tortie-bird.service and tortie-bird.path");
    if (!dryRun) await stopUnits(() => endBird(systemClock));
  } else if (!dryRun) await endBird(systemClock);
  const foreign = await foreignBirdRuns(birdPaths.control);
  using socket = RtSocket.open();
  const found = findLeftovers(socket, { prefix: "cali", bird: !foreign });
  done.push(...tellLeftovers(found).map((what) => `remove ${what}`));
  const failed = dryRun ? [] : removeLeftovers(socket, found).map((what) => `cannot remove ${what}`);
  // Pods are cut off before what guards them goes.
  failed.push(...await clearRules(dryRun, done));
  if (dryRun) return foreign ? ["another BIRD runs here: routes of BIRD would stay"] : failed;
  return foreign ? [...failed, "another BIRD runs here, so routes of BIRD stay"] : failed;
}

/** Policy's chains in every variant of iptables, its sets, and tables that Calico's names are on; answers what stays. */
async function clearRules(dryRun: boolean, done: string[]): Promise<string[]> {
  try {
    const held = [...await heldTables("legacy", ownPrefixes), ...await heldTables("nft", ownPrefixes)];
    const sets = await heldSets((name) => isOwnSet(name, 4) || isOwnSet(name, 6));
    done.push(...held.map((table) => `remove our chains from ${tableText(table)}`));
    if (sets.length > 0) done.push(`destroy ${sets.length} IP sets`);
    if (dryRun) return [];
    for (const table of held) await sweepTable(table, ownPrefixes);
    await sweepSets(sets);
    await sweepNftTables(felixTables);
    return [];
  } catch (error) {
    return [`cannot remove all of policy's rules: ${messageOf(error)}`];
  }
}

/** BIRD ends; with "withdraw" it tells its peers that it goes. */
async function endBird(clock: Clock, how: "keep" | "withdraw" = "withdraw"): Promise<void> {
  const bird = new Bird({ paths: birdPaths, clock, log: silentLog, startedBy: "systemd" });
  if (await bird.running() === undefined) return;
  try {
    await bird.stop(how);
  } catch (error) {
    throw new Problem({
      code: "unavailable",
      what: `BIRD does not stop: ${messageOf(error)}`,
      where: birdPaths.control,
    });
  }
  const end = clock.monotonicMs() + 5_000;
  while (await bird.running() !== undefined && clock.monotonicMs() < end) await clock.sleep(50);
}
