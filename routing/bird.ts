import type { Clock } from "../lib/clock.ts";
import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { run } from "../lib/process.ts";
import { sealOf, textSymbol } from "./bird_config.ts";
import { ask, type Reply } from "./bird_control.ts";
import { type BirdRoute, type BirdState, parseRoutes, parseSessions, parseState, type Session } from "./bird_status.ts";

/** Where BIRD lies and how it is started. Everything can be moved, for tests and for namespaces. */
export interface BirdPaths {
  /** The configuration that BIRD reads; it holds passwords and has mode 0600. Default `/run/tortie/bird.conf`. */
  config: string;
  /** Its control socket. Default `/run/tortie/bird.ctl`. */
  control: string;
  /** Its pid file. Default `/run/tortie/bird.pid`. */
  pid: string;
  /** Program and leading arguments, such as `ip netns exec h1 bird`. Default `bird`. */
  program: string[];
  /** BIRD's log file (rotated once at 1 MiB); undefined = syslog. */
  log?: string;
}

/** The places of a host that runs one tortie. */
export const birdPaths: BirdPaths = {
  config: "/run/tortie/bird.conf",
  control: "/run/tortie/bird.ctl",
  pid: "/run/tortie/bird.pid",
  program: ["bird"],
};

/** What became of a configuration. `line` = the first line of BIRD's complaint, without passwords. */
export type Applied =
  | { is: "unchanged" | "configured" | "started" }
  /** Written and checked; systemd has to start BIRD, which then reads it. */
  | { is: "written" }
  | { is: "refused"; line: string };

/** What a Bird is made of. */
export interface BirdOptions {
  paths: BirdPaths;
  clock: Clock;
  log: Logger;
  /** `us`: started detached when none answers. `systemd`: never started by us. */
  startedBy: "us" | "systemd";
  /**
   * Whether the kernel has routes of an earlier BIRD: only then is there something to recover, and to wait for. Default yes.
   */
  leftRoutes?: () => boolean;
}

/** BIRD's answers to `configure` that mean: taken, under way, or in the queue. */
const taken = [3, 4, 5];

/**
 * The BIRD of this host: a process of its own that outlives us and is found again by its socket. Which text it runs is
 * asked from itself, so nothing has to be remembered.
 */
export class Bird {
  constructor(readonly options: BirdOptions) {}

  /** The seal of the text that runs; "" when BIRD runs a foreign one; undefined when none answers. */
  async running(): Promise<string | undefined> {
    const reply = await this.#tryAsk(`eval ${textSymbol}`);
    return reply && (reply.code === 23 ? reply.lines[0]!.text.trim() : "");
  }

  /**
   * Brings a text of render() into force: nothing when BIRD runs it already; else checked with `bird -p`, put in place by
   * rename, and loaded. A text that BIRD refuses leaves file and BIRD as they are.
   * @param secrets passwords in the text; they are cut out of messages.
   * @throws Problem when BIRD cannot be started or the file cannot be written.
   */
  async apply(text: string, secrets: Iterable<string> = []): Promise<Applied> {
    const { config } = this.options.paths;
    const [runs, before] = [await this.running(), await readIfThere(config)];
    if (runs === sealOf(text) && before === text) return { is: "unchanged" };
    if (before !== text) {
      const complaint = await this.#check(text);
      if (complaint !== undefined) return { is: "refused", line: withoutSecrets(complaint, secrets) };
      await writeDurably(config, text, 0o600);
    }
    if (runs === sealOf(text)) return { is: "unchanged" };
    if (runs === undefined) return await this.#start();
    const reply = await ask(this.options.paths.control, "configure", this.options.clock, 30_000);
    if (taken.includes(reply.code)) return { is: "configured" };
    if (before !== undefined) await writeDurably(config, before, 0o600);
    return { is: "refused", line: withoutSecrets(lastLine(reply), secrets) };
  }

  /** What BIRD tells of itself; undefined when none answers. */
  async state(): Promise<BirdState | undefined> {
    const reply = await this.#tryAsk("show status");
    return reply && parseState(reply.lines);
  }

  /** The BGP sessions; none when no BIRD answers. */
  async sessions(): Promise<Session[]> {
    const reply = await this.#tryAsk("show protocols all");
    return reply ? parseSessions(reply.lines) : [];
  }

  /** The BGP sessions by name, state and since when, without the details that sessions() has; cheap even for thousands. */
  async sessionStates(): Promise<Session[]> {
    const reply = await this.#tryAsk("show protocols");
    return reply ? parseSessions(reply.lines) : [];
  }

  /** All routes of BIRD's two tables; none when no BIRD answers. */
  async routes(): Promise<BirdRoute[]> {
    const reply = await this.#tryAsk("show route");
    return reply ? parseRoutes(reply.lines) : [];
  }

  /**
   * Ends BIRD. `keep`: as for a graceful restart, so peers and the kernel keep the routes until it starts again or the
   * restart time is over. `withdraw`: peers drop the routes at once; those in the kernel stay and are the caller's.
   */
  async stop(how: "keep" | "withdraw"): Promise<void> {
    await this.#tryAsk(how === "keep" ? "graceful restart" : "down");
  }

  async #tryAsk(command: string): Promise<Reply | undefined> {
    try {
      return await ask(this.options.paths.control, command, this.options.clock);
    } catch (error) {
      if (isProblem(error, "unavailable")) return undefined;
      throw error;
    }
  }

  /** The first line of what `bird -p` says against a text; undefined when it has nothing against it. */
  async #check(text: string): Promise<string | undefined> {
    const { config, program } = this.options.paths;
    await Deno.mkdir(folderOf(config), { recursive: true });
    const file = `${config}.new`;
    await writeDurably(file, text, 0o600);
    try {
      const [command, ...words] = program as [string, ...string[]];
      const result = await run(command, [...words, "-p", "-c", file], { timeoutMs: 30_000 });
      if (result.code === 0) return undefined;
      const line = `${result.stderr}\n${result.stdout}`.split("\n").find((l) => l.trim() !== "");
      return line?.replaceAll(file, "bird.conf").trim() ?? `bird -p ended with ${result.code}`;
    } finally {
      await Deno.remove(file);
    }
  }

  /**
   * Starts BIRD, which puts itself into a session of its own, and waits until it answers. `-R` makes it recover from a
   * graceful restart: routes of its predecessor stay in the kernel, and its peers keep theirs. Without a predecessor it would
   * only hold the first routes back until every peer has told its last, up to `graceful restart wait`.
   */
  async #start(): Promise<Applied> {
    if (this.options.startedBy === "systemd") return { is: "written" };
    const { config, control, pid, program } = this.options.paths;
    await this.#endUnreachable();
    // Through a shell its argv[0] stays "bird", the word that Calico's `calicoctl node status` looks for.
    // A BIRD that was killed leaves its pid file, and peers that still have its routes.
    const wasKilled = await readIfThere(pid) !== undefined;
    const recover = wasKilled || (this.options.leftRoutes?.() ?? true) ? ["-R"] : [];
    const words = ["-c", 'exec "$0" "$@"', ...program, ...recover, "-c", config, "-s", control, "-P", pid];
    const result = await run("sh", words, { timeoutMs: 30_000 });
    if (result.code !== 0) {
      const why = result.stderr.trim() || result.stdout.trim();
      throw new Problem({ code: "unavailable", what: `BIRD does not start: ${why}`, where: config });
    }
    const end = this.options.clock.monotonicMs() + 10_000;
    while (await this.running() === undefined) {
      if (this.options.clock.monotonicMs() > end) {
        throw new Problem({ code: "unavailable", what: "BIRD started but does not answer", where: control });
      }
      await this.options.clock.sleep(20);
    }
    return { is: "started" };
  }

  /**
   * A BIRD of ours that lives without a socket (somebody removed it) would fight with a second one for port 179. It is
   * ended like a crash, after which the next one takes its routes over.
   */
  async #endUnreachable(): Promise<void> {
    const { pid: pidFile, control } = this.options.paths;
    const pid = Number((await readIfThere(pidFile))?.trim() ?? NaN);
    if (!Number.isInteger(pid) || pid <= 1) return;
    const words = (await readIfThere(`/proc/${pid}/cmdline`))?.split("\0") ?? [];
    if (!words.includes(control) || !words.some((w) => /(^|\/)bird[^/]*$/.test(w))) return;
    this.options.log.warn("BIRD lives but its socket is gone, it is replaced", { pid });
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    const end = this.options.clock.monotonicMs() + 2_000;
    while (await readIfThere(`/proc/${pid}/cmdline`) && this.options.clock.monotonicMs() < end) {
      await this.options.clock.sleep(10);
    }
  }
}

const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf("/"), 1));

const lastLine = (reply: Reply): string => reply.lines.at(-1)?.text.trim() ?? `code ${reply.code}`;

/** BIRD quotes words of the file in its messages; none of them may be a password. */
function withoutSecrets(line: string, secrets: Iterable<string>): string {
  let out = line;
  for (const secret of secrets) out = out.replaceAll(secret, "…");
  return out;
}
