import { Backoff } from "../../lib/backoff.ts";
import { rfc3339 } from "../../lib/clock.ts";
import { isProblem, messageOf } from "../../lib/problem.ts";
import { Wake } from "../../lib/wake.ts";
import type { Shared } from "../parts.ts";
import { PolicyFolder } from "./folder.ts";
import { passOver, type PassParts } from "./pass.ts";

/** The folder unless TORTIE_POLICIES_DIR names another. */
const defaultFolder = "/etc/tortie/policies.d";
/** Whatever was missed, and what stood in the way and is gone, is seen after this time. */
const periodMs = 30_000;
/** Between two looks for a folder that is not there. */
const absentMs = 3_000;
/** Editors write in several steps; what is half written would be called broken. */
const quietMs = 150;
/** Passes in a row: a file may wait for what a later one brings. */
const mostPasses = 5;

/** Brings what lies in the folder of policies into the datastore, from now until the signal. */
export async function runPolicies(shared: Shared): Promise<void> {
  const { settings, stateDir, clock, signal, node, store } = shared, log = shared.log.child("policies");
  const folder = new PolicyFolder(settings.get("TORTIE_POLICIES_DIR") ?? defaultFolder, `${stateDir}/policies.d`);
  const signature = (file: string) => ({
    by: { user: "tortie", host: node, command: `policies.d/${file}` },
    at: rfc3339(clock.now()),
  });
  const parts: PassParts = { store, node, folder, log, signature }, wake = new Wake(clock);
  const watching = watchFolder(folder.path, wake, signal);
  const backoff = new Backoff({ firstMs: 200, maxMs: 10_000, clock });
  let told = new Set<string>();
  while (!signal.aborted) {
    try {
      told = tell(parts, await settle(parts), told);
      backoff.reset();
      await wake.sleep(watching.isWatching() ? periodMs : absentMs, signal);
      if (!signal.aborted) await clock.sleep(quietMs, signal).catch(() => {}); // aborted: the loop's condition ends it
      watching.renew();
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("files of policies cannot be brought in now", { why: messageOf(error) });
      await backoff.wait(signal).catch(() => {}); // aborted: the loop's condition ends it
    }
  }
  watching.stop();
}

/** Passes over the folder until nothing changes. @returns what is still wrong. */
async function settle(parts: PassParts): Promise<string[]> {
  for (let left = mostPasses;; left--) {
    const { problems, again } = await passOver(parts);
    if (!again || left <= 1) return problems;
  }
}

/** Says each problem once, and once that it is gone. */
function tell({ log }: PassParts, problems: readonly string[], told: ReadonlySet<string>): Set<string> {
  for (const problem of problems) {
    if (!told.has(problem)) log.error("file of policies is not in force as it is", { problem });
  }
  for (const problem of told) {
    if (!problems.includes(problem)) log.info("no longer wrong in a file of policies", { problem });
  }
  return new Set(problems);
}

/** Calls `wake` when something in the folder changes. A folder that is not there, or is another now, is watched by renew(). */
function watchFolder(path: string, wake: Wake, signal: AbortSignal) {
  let watched: { watcher: Deno.FsWatcher; inode: number | null } | undefined;
  const follow = async (watcher: Deno.FsWatcher) => {
    for await (const { kind } of watcher) if (kind !== "access") wake.call();
  };
  const stop = () => {
    watched?.watcher.close();
    watched = undefined;
  };
  const renew = () => {
    const inode = inodeOf(path);
    if (watched?.inode === inode || signal.aborted) return;
    stop();
    if (inode === undefined) return;
    const watcher = Deno.watchFs(path, { recursive: false });
    watched = { watcher, inode };
    follow(watcher).catch(() => watched?.watcher === watcher && stop());
    wake.call();
  };
  renew();
  return { isWatching: () => watched !== undefined, renew, stop };
}

/** Undefined when there is no such folder. */
function inodeOf(path: string): number | null | undefined {
  try {
    const { isDirectory, ino } = Deno.statSync(path);
    return isDirectory ? ino : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}
