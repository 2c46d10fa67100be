import { Problem } from "./problem.ts";

/** How a program is run. */
export interface RunOptions {
  /** Fed to standard input, which is then closed. */
  stdin?: string | Uint8Array;
  /** Killed with SIGKILL when it takes longer. Default 30,000. */
  timeoutMs?: number;
  env?: Record<string, string>;
  /** Start with an empty environment. */
  clearEnv?: boolean;
  /** Output kept per stream; the rest is read and dropped. Default 4 MiB. */
  maxOutputBytes?: number;
  cwd?: string;
}

/** What a program did. */
export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A program that runs. */
export interface Running {
  /** Process id, in our process namespace. */
  pid: number;
  /** As run() answers. */
  result: Promise<RunResult>;
}

/**
 * Runs a program to its end; the only spawner of the project. Programs, not shells: a grandchild that holds the pipe
 * would hold us. Both outputs are drained while stdin is written, so a full pipe never deadlocks.
 * @throws Problem "unavailable" when the program does not exist or overruns its deadline; a non-zero code is a result.
 */
export async function run(program: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  return await start(program, args, options).result;
}

/** run() for callers that need the process id while it runs. @throws Problem "unavailable" when it does not exist. */
export function start(program: string, args: string[], options: RunOptions = {}): Running {
  const where = [program, ...args].join(" ");
  try {
    const child = new Deno.Command(program, {
      args,
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      env: options.env,
      clearEnv: options.clearEnv,
      cwd: options.cwd,
    }).spawn();
    return { pid: child.pid, result: ended(child, program, where, options) };
  } catch (error) {
    throw new Problem({ code: "unavailable", what: `${program} cannot be started`, where, cause: error });
  }
}

async function ended(
  child: Deno.ChildProcess,
  program: string,
  where: string,
  options: RunOptions,
): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const max = options.maxOutputBytes ?? 4 << 20;
  const outputs = [drain(child.stdout, max), drain(child.stderr, max)] as const;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    try {
      child.kill("SIGKILL");
    } catch { /* ended by itself meanwhile */ }
  }, timeoutMs);
  try {
    await feed(child, options.stdin);
    const [stdout, stderr, status] = await Promise.all([outputs[0], outputs[1], child.status]);
    if (late) throw new Problem({ code: "unavailable", what: `${program} took longer than ${timeoutMs} ms`, where });
    return { code: status.code, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/** run() that throws a Problem with the program's own words when it fails. */
export async function runOk(program: string, args: string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options);
  if (code === 0) return stdout;
  const why = stderr.trim() || stdout.trim();
  throw new Problem({
    code: "kernel",
    what: `${program} failed with exit code ${code}: ${why}`,
    where: [program, ...args].join(" "),
  });
}

async function feed(child: Deno.ChildProcess, stdin: string | Uint8Array | undefined): Promise<void> {
  if (stdin === undefined) return;
  const writer = child.stdin.getWriter();
  try {
    await writer.write(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin);
    await writer.close();
  } catch {
    // EPIPE: the program ended without reading all; its exit code tells why.
  }
}

async function drain(stream: ReadableStream<Uint8Array>, max: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let kept = 0;
  for await (const part of stream) {
    if (kept >= max) continue;
    parts.push(part.subarray(0, max - kept));
    kept += part.length;
  }
  return await new Response(new Blob(parts as BlobPart[])).text();
}

/**
 * Gives this process's own streams, the terminal with them, to a program and waits for its end, however long it takes.
 * @returns its exit code. @throws Problem "unavailable" when the program does not exist.
 */
export async function attend(program: string, args: string[]): Promise<number> {
  try {
    const own = { stdin: "inherit", stdout: "inherit", stderr: "inherit" } as const;
    return (await new Deno.Command(program, { args, ...own }).spawn().status).code;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Problem({ code: "unavailable", what: `${program} is not installed`, cause: error });
  }
}

/**
 * Starts a program that outlives this one, in a session of its own, so that what ends us leaves it alone.
 * @param logFile gets its standard error, added to what is there. @throws Problem "unavailable" when setsid(1) fails.
 */
export async function startDetached(
  command: readonly string[],
  logFile: string,
  env?: Record<string, string>,
): Promise<void> {
  const script = 'exec setsid --fork "$@" </dev/null >/dev/null 2>>"$0"';
  const { code, stderr } = await run("sh", ["-c", script, logFile, ...command], { timeoutMs: 5_000, env });
  if (code === 0) return;
  throw new Problem({ code: "unavailable", what: `setsid failed: ${stderr.trim()}`, where: command.join(" ") });
}

/** The words that run this program again. */
export const ownCommand = (): string[] =>
  Deno.build.standalone ? [Deno.execPath()] : [Deno.execPath(), "run", "-A", "--quiet", Deno.mainModule];
