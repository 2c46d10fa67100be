import type { Clock } from "../lib/clock.ts";
import type { Family } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem } from "../lib/problem.ts";
import { ask, type Reply } from "./bird_control.ts";
import { nameParts, parseRow } from "./bird_status.ts";

/** What the sockets are made of. */
export interface CalicoSocketOptions {
  /** Folder of `bird.ctl` and `bird6.ctl`. */
  folder: string;
  /** The control socket of our BIRD. */
  control: string;
  clock: Clock;
  log: Logger;
  /** Closes the sockets and removes their files. */
  signal: AbortSignal;
}

/**
 * Answers on Calico's two control sockets in the words of BIRD 1.6, so that `calicoctl node status` and calico/node's
 * health check read them: `show protocols` and `show status` only, each socket with the sessions of its family. BIRD 2
 * itself writes the table's head in upper case, and one table for both families, which those programs refuse.
 * Resolves when `signal` is aborted. A socket at which somebody else answers is left alone.
 */
export async function serveCalicoSockets(options: CalicoSocketOptions): Promise<void> {
  await Deno.mkdir(options.folder, { recursive: true });
  await Promise.all([
    serve(options, 4, `${options.folder}/bird.ctl`),
    serve(options, 6, `${options.folder}/bird6.ctl`),
  ]);
}

async function serve(options: CalicoSocketOptions, v: Family, path: string): Promise<void> {
  const { signal, log } = options;
  const listener = await listen(path);
  if (!listener) {
    log.warn("another program answers on Calico's BIRD socket, it stays", { path });
    return;
  }
  const open = new Set<Deno.UnixConn>();
  const close = () => {
    listener.close();
    for (const connection of open) connection.close();
  };
  if (signal.aborted) return close();
  signal.addEventListener("abort", close, { once: true });
  const talks: Promise<void>[] = [];
  for await (const connection of listener) {
    open.add(connection);
    talks.push(
      talk(options, v, connection).finally(() => {
        if (open.delete(connection) && !signal.aborted) connection.close();
      }),
    );
    if (talks.length > 100) talks.splice(0, talks.length - 50);
  }
  await Promise.all(talks);
}

/** Listens at a path after removing a socket that nobody answers at; undefined when somebody does. */
async function listen(path: string): Promise<Deno.UnixListener | undefined> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return undefined;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) await Deno.remove(path);
  }
  return Deno.listen({ transport: "unix", path });
}

async function talk(options: CalicoSocketOptions, v: Family, connection: Deno.UnixConn): Promise<void> {
  const encoder = new TextEncoder(), decoder = new TextDecoder();
  const send = (text: string) => connection.write(encoder.encode(text));
  const buffer = new Uint8Array(4096);
  let rest = "";
  try {
    await send("0001 BIRD v0.3.3+birdv1.6.8 ready.\n");
    for (;;) {
      const n = await connection.read(buffer);
      if (n === null || rest.length > 4096) return;
      const lines = (rest + decoder.decode(buffer.subarray(0, n), { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) await send(await answer(options, v, line.trim()));
    }
  } catch (error) {
    // The other side, or we, closed the connection.
    if (!isClosed(error)) throw error;
  }
}

const isClosed = (error: unknown): boolean =>
  error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset ||
  error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted;

async function answer(options: CalicoSocketOptions, v: Family, command: string): Promise<string> {
  if (!["show protocols", "show status"].includes(command)) {
    return "9001 only show protocols and show status are here\n";
  }
  try {
    const status = await ask(options.control, "show status", options.clock);
    if (command === "show status") return raw(status);
    const now = status.lines.map((l) => /^Current server time is (\S+)/.exec(l.text)?.[1]).find((t) => t) ?? "";
    return protocolTable(await ask(options.control, command, options.clock), v, now);
  } catch (error) {
    if (isProblem(error, "unavailable")) return "8003 BIRD does not run\n";
    throw error;
  }
}

/** The lines as BIRD sent them, with the code on each. */
function raw({ lines }: Reply): string {
  return lines.map((l, i) => `${code(l.code)}${i === lines.length - 1 ? " " : "-"}${l.text}\n`).join("");
}

/**
 * `show protocols` of one family in the form of BIRD 1.6: lower-case head, the one word of a time of today or a date, the
 * protocols of both families under 1.6's names. @param today local date, `2026-11-21`.
 */
export function protocolTable(reply: Reply, v: Family, today: string): string {
  const rows = reply.lines.filter((l) => l.code === 1002 && l.text.trim() !== "").map((l) => parseRow(l.text));
  const shown = rows.filter((r) =>
    r.proto === "BGP" ? nameParts(r.name)?.v === v : r.name.endsWith(`${v}`) || /1$/.test(r.name)
  );
  const out = ["2002-name     proto    table    state  since       info"];
  for (const [i, row] of shown.entries()) {
    const [date, time] = row.since.split(" ");
    const since = time === undefined || date !== today ? date : time;
    const name = row.name.replace(/^(kernel|static)[46]$/, "$11").padEnd(8);
    const table = row.table === "---" && row.proto !== "Device" ? "master" : row.table.replace(/[46]$/, "");
    const text = `${name} ${row.proto.padEnd(8)} ${table.padEnd(8)} ${row.state.padEnd(6)} ${
      since!.padEnd(11)
    } ${row.info}`;
    out.push(`${i === 0 ? "1002-" : " "}${text.trimEnd()}`);
  }
  return `${out.join("\n")}\n0000 \n`;
}

const code = (n: number): string => String(n).padStart(4, "0");
