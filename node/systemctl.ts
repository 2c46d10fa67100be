import { run, runOk } from "../lib/process.ts";
import { enabledUnits } from "./units.ts";

/** True when systemd is this host's init. Source: sd_booted(3). */
export async function hasSystemd(): Promise<boolean> {
  try {
    return (await Deno.lstat("/run/systemd/system")).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Makes systemd read the units anew, enables them and, with `start`, starts them.
 * @param options.restartNode the agent runs an old program or old settings. BIRD is never restarted: it reads its new
 * configuration by itself. @returns what was done and what is in the way, for people.
 */
export async function startUnits(options: { start: boolean; restartNode: boolean }): Promise<string[]> {
  const told: string[] = [];
  await runOk("systemctl", ["daemon-reload"]);
  await runOk("systemctl", ["enable", "--quiet", ...enabledUnits]);
  if (options.start) {
    await runOk("systemctl", ["start", ...enabledUnits]);
    if (options.restartNode) await runOk("systemctl", ["restart", "tortie.service"]);
    told.push(`started ${enabledUnits.join(", ")}`);
  }
  if ((await run("systemctl", ["is-active", "--quiet", "bird.service"])).code === 0) {
    told.push("note: bird.service runs too; it has port 179, so disable it: systemctl disable --now bird.service");
  }
  return told;
}

/** Stops and disables all units; those that are not there are no matter. The order keeps BIRD from being started again. */
export async function stopUnits(endBird: () => Promise<void>): Promise<void> {
  await run("systemctl", ["disable", "--now", "--quiet", "tortie-bird.path"]);
  await run("systemctl", ["disable", "--now", "--quiet", "tortie.service"]);
  await endBird();
  await run("systemctl", ["stop", "tortie-bird.service"]);
}

/** After unit files are gone. */
export async function forgetUnits(): Promise<void> {
  await runOk("systemctl", ["daemon-reload"]);
  await run("systemctl", ["reset-failed", "tortie.service", "tortie-bird.service"]);
}
