import { isProblem } from "../lib/problem.ts";
import { attend, run } from "../lib/process.ts";

/** What some commands do with the machine that they run on, beside the datastore. */
export interface Host {
  /** Runs a program to its end. Undefined when there is none of that name, or it took longer than a minute. */
  run(program: string, args: string[]): Promise<{ code: number; output: string } | undefined>;
  /** Gives the terminal to a program until it ends. @returns its exit code; undefined when there is none of that name. */
  attend(program: string, args: string[]): Promise<number | undefined>;
  /** @throws Error when it cannot be written. */
  writeFile(path: string, text: string): Promise<void>;
  /** A new folder that only this user can read; nobody removes it. */
  temporaryFolder(): Promise<string>;
  exists(path: string): Promise<boolean>;
  /** May do what only root may. */
  readonly isRoot: boolean;
  /** Aborted when the user wants to stop (Ctrl-C). */
  interruption(): AbortSignal;
}

const runMs = 60_000;

/** The machine of this process. */
export function processHost(): Host {
  return {
    async run(program, args) {
      try {
        const { code, stdout, stderr } = await run(program, args, { timeoutMs: runMs });
        return { code, output: stdout + stderr };
      } catch (error) {
        if (isProblem(error, "unavailable")) return undefined;
        throw error;
      }
    },
    async attend(program, args) {
      try {
        return await attend(program, args);
      } catch (error) {
        if (isProblem(error, "unavailable")) return undefined;
        throw error;
      }
    },
    writeFile: (path, text) => Deno.writeTextFile(path, text, { mode: 0o600 }),
    temporaryFolder: () => Deno.makeTempDir({ prefix: "tortie-" }),
    async exists(path) {
      try {
        await Deno.stat(path);
        return true;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
        throw error;
      }
    },
    isRoot: Deno.uid() === 0,
    interruption() {
      const stop = new AbortController();
      Deno.addSignalListener("SIGINT", () => stop.abort());
      return stop.signal;
    },
  };
}
