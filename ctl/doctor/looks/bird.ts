import type { Clock } from "../../../lib/clock.ts";
import { silentLog } from "../../../lib/log.ts";
import { Bird, birdPaths } from "../../../routing/bird.ts";
import { isUnedited, sealOf } from "../../../routing/bird_config.ts";
import type { BirdFacts } from "../facts.ts";

/** Asks BIRD and reads its file. @param backend CALICO_NETWORKING_BACKEND of the agent; undefined = not known. */
export async function lookAtBird(runDir: string, backend: string | undefined, clock: Clock): Promise<BirdFacts> {
  const paths = { ...birdPaths, control: `${runDir}/bird.ctl`, config: `${runDir}/bird.conf` };
  const bird = new Bird({ paths, clock, log: silentLog, startedBy: "systemd" });
  const text = readIfThere(paths.config);
  const runningText = await bird.running();
  return {
    running: runningText !== undefined,
    wanted: backend === undefined ? text !== undefined : backend === "" || backend === "bird",
    configFile: paths.config,
    fileText: text === undefined ? undefined : sealOf(text) ?? "",
    runningText,
    edited: text !== undefined && !isUnedited(text),
    sessions: (await bird.sessions()).map(({ name, peer, state, lastError }) => ({ name, peer, state, lastError })),
  };
}

function readIfThere(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
