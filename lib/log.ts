import { Clock, systemClock } from "./clock.ts";
import { writeJson } from "./json64.ts";

/** Severity, weakest first. */
export type Level = "debug" | "info" | "warn" | "error";

/** Values of a line, by their glossary names (`policy`, `node`, `key`, `ms`); never part of the message. */
export type Fields = Record<string, unknown>;

/**
 * Writes one JSON line an event: `{"ts":…,"level":…,"mod":…,"msg":…, fields…}`. The message is constant, values are
 * fields. The same level, module, message and `key`-like fields within 60 s are counted and said once, with `repeated`.
 */
export interface Logger {
  debug(msg: string, fields?: Fields): void;
  info(msg: string, fields?: Fields): void;
  warn(msg: string, fields?: Fields): void;
  error(msg: string, fields?: Fields): void;
  /** The same log under another module name, with `fields` on every line. */
  child(mod: string, fields?: Fields): Logger;
}

/** Lines that are lost: `dropped` because nobody takes them (a full pipe that does not wait), `errors` for another reason. */
export interface LogCounts {
  dropped: number;
  errors: number;
}

/** Where lines go and which are kept. */
export interface LogOptions {
  /** Weakest level written, or who says it at each line. Default info. */
  level?: Level | (() => Level);
  /** Receives whole lines with their line break. Default: stderr, written before the call returns. */
  write?: (line: string) => void;
  clock?: Clock;
  fields?: Fields;
  /** Lost lines are counted here. A line that cannot be written is lost, nothing else. */
  counts?: LogCounts;
}

const rank: Record<Level, number> = { debug: 10, info: 20, warn: 30, error: 40 };
const repeatWindowMs = 60_000;

/** A log for module `mod` ("mirror", "dataplane", …). */
export function createLog(mod: string, options: LogOptions = {}): Logger {
  return loggerOf(mod, options.fields ?? {}, new Sink(options));
}

/** Reads a level as users write it (Calico's names too: Warning, Fatal, Trace, none); undefined when it is none of them. */
export function parseLevel(text: string): Level | undefined {
  const names: Record<string, Level> = {
    trace: "debug",
    debug: "debug",
    info: "info",
    warn: "warn",
    warning: "warn",
    error: "error",
    fatal: "error",
    none: "error",
  };
  return names[text.toLowerCase()];
}

function loggerOf(mod: string, base: Fields, sink: Sink): Logger {
  const at = (level: Level) => (msg: string, fields: Fields = {}) => sink.line(level, mod, msg, { ...base, ...fields });
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (name, fields = {}) => loggerOf(name, { ...base, ...fields }, sink),
  };
}

/** Counts repeats: the first line of a kind is written at once, the rest of a minute as one line when the next one comes. */
class Sink {
  #seen = new Map<string, { since: number; repeated: number }>();
  readonly #min: () => number;
  readonly #write: (line: string) => void;
  readonly #clock: Clock;
  readonly #counts: LogCounts;

  constructor(options: LogOptions) {
    const { level = "info" } = options;
    this.#min = typeof level === "function" ? () => rank[level()] : () => rank[level];
    this.#write = options.write ?? toStderr;
    this.#clock = options.clock ?? systemClock;
    this.#counts = options.counts ?? { dropped: 0, errors: 0 };
  }

  line(level: Level, mod: string, msg: string, fields: Fields): void {
    if (rank[level] < this.#min()) return;
    const now = this.#clock.now();
    const id = `${level} ${mod} ${msg} ${identity(fields)}`;
    const seen = this.#seen.get(id);
    if (seen && now - seen.since < repeatWindowMs) {
      seen.repeated++;
      return;
    }
    this.#forgetOld(now);
    this.#seen.set(id, { since: now, repeated: 0 });
    const repeated = seen?.repeated ? { repeated: seen.repeated } : {};
    const plain = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, v instanceof Error ? v.message : v]));
    this.#put(writeJson({ ts: new Date(now).toISOString(), level, mod, msg, ...plain, ...repeated }) + "\n");
  }

  #put(line: string): void {
    try {
      this.#write(line);
    } catch (error) {
      if (error instanceof Deno.errors.WouldBlock) this.#counts.dropped++;
      else this.#counts.errors++;
    }
  }

  /** Keeps the table small: what was not repeated within the window is forgotten. */
  #forgetOld(now: number): void {
    if (this.#seen.size < 1000) return;
    for (const [id, s] of this.#seen) if (now - s.since >= repeatWindowMs) this.#seen.delete(id);
  }
}

/** The fields that say what a line is about: all strings; numbers and durations vary between repeats. */
function identity(fields: Fields): string {
  return Object.entries(fields).filter(([, v]) => typeof v === "string").map(([k, v]) => `${k}=${v}`).join(" ");
}

function toStderr(line: string): void {
  const bytes = new TextEncoder().encode(line);
  for (let n = 0; n < bytes.length;) n += Deno.stderr.writeSync(bytes.subarray(n));
}

/** A log that drops everything; for tests and for callers that have none. */
export const silentLog: Logger = createLog("silent", { write: () => {} });
