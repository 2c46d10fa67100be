import type { Author } from "../datastore/history.ts";
import { openThroughGateway } from "../datastore/gateway.ts";
import { systemClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { version } from "../lib/version.ts";
import type { Surroundings } from "./surroundings.ts";

/** The process's own files, streams and environment. The client of etcd is loaded when it is first needed. */
export function processSurroundings(): Surroundings {
  return {
    program: programName(),
    out: (text) => writeAll(Deno.stdout, text),
    err: (text) => writeAll(Deno.stderr, text),
    stdin: () => new Response(Deno.stdin.readable).text(),
    env,
    readFile,
    listFolder,
    openStore: (options) =>
      openThroughGateway(options, {
        env: (name) => Deno.env.get(name),
        open: async () => {
          const { openEtcd } = await import("../datastore/etcd.ts");
          return openEtcd(options, { clock: systemClock, log: createLog("ctl", { level: "error" }) });
        },
      }),
    node: async () => (await import("./node_view.ts")).nodeView(runDir()),
    agent: async () => (await import("../agent/agent_socket.ts")).agentSocket(`${runDir()}/agent.sock`),
    host: async () => (await import("./host.ts")).processHost(),
    clock: systemClock,
    uuid: () => crypto.randomUUID(),
    author,
    session: async () => (await import("./process_session.ts")).processSession(),
    random: Math.random,
    version: `tortie ${version}`,
    commit: "unknown",
    screen: Deno.stdout.isTerminal(),
    terminal: Deno.stderr.isTerminal(),
  };
}

const runDir = (): string => Deno.env.get("TORTIE_RUN_DIR") ?? "/run/tortie";

/** Where nothing says where the datastore is, and this host has one of its own, it is that. */
function env(name: string): string | undefined {
  const value = Deno.env.get(name);
  if (name !== "ETCD_ENDPOINTS" || value || Deno.env.get("CALICO_ETCD_ENDPOINTS")) return value;
  const socket = `${Deno.env.get("TORTIE_RUN_DIR") ?? "/run/tortie"}/store.sock`;
  try {
    return Deno.statSync(socket).isSocket ? `unix://${socket}` : value;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return value;
    throw error;
  }
}

/** What the user called: the link's name, or `tortie ctl`. */
function programName(): string {
  const first = new TextDecoder().decode(Deno.readFileSync("/proc/self/cmdline")).split("\0", 1)[0]!;
  return first.split("/").pop() === "calicoctl" ? "calicoctl" : "tortie ctl";
}

/** Longest command line that a history keeps. */
const maxCommand = 200;

/** Behind sudo it is the user who called it. */
function author(): Author {
  const env = (name: string) => Deno.env.get(name) || undefined;
  const command = [programName(), ...Deno.args.slice(programName() === "calicoctl" ? 0 : 1)].join(" ");
  return {
    user: env("SUDO_USER") ?? env("USER") ?? env("LOGNAME") ?? (Deno.uid() === 0 ? "root" : `uid ${Deno.uid()}`),
    host: Deno.hostname(),
    from: env("SSH_CONNECTION")?.split(" ")[0],
    command: command.length > maxCommand ? `${command.slice(0, maxCommand)}…` : command,
  };
}

/** Writes before it returns, so nothing is lost at exit. A reader that went away ends the program quietly. */
function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let n = 0; n < bytes.length;) n += stream.writeSync(bytes.subarray(n));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(141);
    throw error;
  }
}

async function readFile(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new Problem({ code: "bad-input", what: `open ${path}: ${messageOf(error)}` });
  }
}

async function listFolder(path: string): Promise<{ files: string[]; folders: string[] } | undefined> {
  const files: string[] = [], folders: string[] = [];
  try {
    if (!(await Deno.stat(path)).isDirectory) return undefined;
    for await (const entry of Deno.readDir(path)) (entry.isDirectory ? folders : files).push(entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new Problem({ code: "bad-input", what: `open ${path}: ${messageOf(error)}` });
  }
  return { files, folders };
}
