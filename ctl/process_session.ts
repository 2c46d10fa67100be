import { nodeName } from "../lib/node_name.ts";
import { formatIp } from "../lib/ip.ts";
import { isProblem } from "../lib/problem.ts";
import { run } from "../lib/process.ts";
import { findSession, type Session } from "./session.ts";

/** The remote session of this process's user. What may not be read, or is not there, tells nothing. */
export async function processSession(): Promise<Session | undefined> {
  const found = await findSession({
    own: Deno.env.get("SSH_CONNECTION"),
    parents: parentEnvironments,
    who: () => run("who", ["-m"], { timeoutMs: 2_000 }).then(({ stdout }) => stdout, nothingIfAway),
  });
  if (!found) return undefined;
  const address = found.server && formatIp(found.server);
  const interfaceName = Deno.networkInterfaces().find((i) => i.address === address)?.name;
  return { ...found, interfaceName, node: ownNode() };
}

function* parentEnvironments(): Generator<string> {
  for (let pid = Deno.ppid; pid > 1;) {
    const environment = readOwn(`/proc/${pid}/environ`), status = readOwn(`/proc/${pid}/status`);
    if (environment !== undefined) yield environment;
    pid = Number(/^PPid:\s*(\d+)$/m.exec(status ?? "")?.[1] ?? 0);
  }
}

/** Processes of other users, and those that have just ended, cannot be read. */
function readOwn(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return undefined;
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return undefined;
    throw error;
  }
}

function ownNode(): string | undefined {
  try {
    return nodeName();
  } catch (error) {
    if (isProblem(error, "bad-input")) return undefined;
    throw error;
  }
}

function nothingIfAway(error: unknown): string {
  if (isProblem(error, "unavailable")) return "";
  throw error;
}
