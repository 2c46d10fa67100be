import type { Clock } from "./clock.ts";
import { Problem } from "./problem.ts";

/** How long answers under way may take when a server closes; nobody new is served meanwhile. */
const closeMs = 2_000;

/** Ends a server: what is under way may go on for a while, and is then given up. */
export async function closeServer(server: { shutdown(): Promise<void> }, clock: Clock, ms = closeMs): Promise<void> {
  const closed = new AbortController();
  const givenUp = clock.sleep(ms, closed.signal).catch(() => {}); // aborted: it closed in time
  await Promise.race([server.shutdown(), givenUp]);
  closed.abort();
}

/**
 * Makes a unix socket's folder (mode 0700), and removes a socket that nobody listens on any more.
 * @param who serves it: "agent". @throws Problem "exists" when somebody answers there.
 */
export async function claimSocket(path: string, who: string): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")) || "/", { recursive: true, mode: 0o700 });
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    if (!(error instanceof Deno.errors.ConnectionRefused)) throw error;
    return await Deno.remove(path);
  }
  throw new Problem({
    code: "exists",
    what: `another ${who} answers here`,
    where: path,
    todo: "Stop it first",
  });
}

/** Removes a socket; one that is gone is fine. */
export async function removeSocket(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
