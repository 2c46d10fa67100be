import type { Logger } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import { run } from "../lib/process.ts";
import { aborted } from "../lib/service.ts";
import type { Shared } from "./parts.ts";

/** Written once rules of ours are in the kernel. /run is emptied by a boot, which takes the rules away, too. */
const markerIn = (runDir: string): string => `${runDir}/programmed`;

/**
 * True when this host has booted since it last had rules of ours. Then the last known state is better than none, though the
 * datastore does not answer; else the kernel holds what was in force, which may be newer.
 */
export async function nothingProgrammed(runDir: string): Promise<boolean> {
  try {
    await Deno.stat(markerIn(runDir));
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

/** A boot waits so long for the first rules; a host that nothing is known of must come up, too. */
const bootMs = 10_000;

/**
 * Notes that there are rules in the kernel, and tells systemd that the network may come up: `tortie.service` is ordered
 * before network-pre.target, so the door is closed before anybody can knock. Ends with the signal.
 */
export async function openNetwork(
  { runDir, clock, log, signal }: Pick<Shared, "runDir" | "clock" | "log" | "signal">,
  programmed: Promise<void>,
): Promise<void> {
  const noted = programmed.then(() => Deno.writeTextFile(markerIn(runDir), ""), () => {}); // its end is told elsewhere
  await Promise.race([noted, clock.sleep(bootMs, signal).catch(() => {})]); // aborted: nothing is told any more
  if (!signal.aborted && Deno.env.get("NOTIFY_SOCKET")) await tellSystemd(log);
  await Promise.race([noted, aborted(signal)]);
}

async function tellSystemd(log: Logger): Promise<void> {
  try {
    const { code, stderr } = await run("systemd-notify", ["--ready"], { timeoutMs: 5_000 });
    if (code !== 0) log.warn("systemd was not told that we are ready", { why: stderr.trim() });
  } catch (error) {
    log.warn("systemd was not told that we are ready", { why: messageOf(error) });
  }
}
