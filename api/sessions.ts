import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { Bird, birdPaths } from "../routing/bird.ts";
import type { Session } from "../routing/bird_status.ts";

/** BGP sessions of this host's BIRD; undefined when it does not run. @param runDir folder of its socket. */
export async function localSessions(runDir: string, clock: Clock, log: Logger): Promise<Session[] | undefined> {
  const bird = new Bird({ paths: { ...birdPaths, control: `${runDir}/bird.ctl` }, clock, log, startedBy: "systemd" });
  return await bird.state() ? await bird.sessions() : undefined;
}
