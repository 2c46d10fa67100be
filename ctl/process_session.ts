import { nodeName } from "../lib/node_name.ts";
import { formatIp } from "../lib/ip.ts";
import { isProblem } from "../lib/problem.ts";
import { readProc, readSockets, socketsOf } from "../kernel/sockets.ts";
import { run } from "../lib/process.ts";
import { findSession, type Session } from "./session.ts";

/** The remote session of this process's user. What may not be read, or is not there, tells nothing. */
export async function processSession(): Promise<Session | undefined> {
  const found = await findSession({
    own: Deno.env.get("SSH_CONNECTION"),
    parents: parentEnvironments,
    served: servedConnection,
    who: () => run("who", ["-m"], { timeoutMs: 2_000 }).then(({ stdout }) => stdout, nothingIfAway),
  });
  if (!found) return undefined;
  const address = found.server && formatIp(found.server);
  const interfaceName = Deno.networkInterfaces().find((i) => i.address === address)?.name;
  return { ...found, interfaceName, node: ownNode() };
}

function* parentEnvironments(): Generator<string> {
  for (const pid of parents()) {
    const environment = readProc(`${pid}/environ`);
    if (environment !== undefined) yield environment;
  }
}

function* parents(): Generator<number> {
  for (let pid = Deno.ppid; pid > 1;) {
    yield pid;
    pid = Number(/^PPid:\s*(\d+)$/m.exec(readProc(`${pid}/status`) ?? "")?.[1] ?? 0);
  }
}

/** The connection that an sshd among our parents serves, as SSH_CONNECTION tells it. */
function servedConnection(): string | undefined {
  for (const pid of parents()) {
    if (!/^(sshd.*|dropbear)$/.test(readProc(`${pid}/comm`)?.trim() ?? "")) continue;
    const inodes = new Set(socketsOf(pid));
    const served = readSockets().find((s) => s.state === "established" && inodes.has(s.inode));
    if (served) return `${formatIp(served.remote)} ${served.remotePort} ${formatIp(served.local)} ${served.localPort}`;
  }
  return undefined;
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
