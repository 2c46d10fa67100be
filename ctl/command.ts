import { Problem } from "../lib/problem.ts";
import type { Resources } from "../datastore/resources.ts";
import type { Lifelines } from "./cut.ts";
import type { Surroundings } from "./surroundings.ts";

/** A flag of a command. Without `value` it is a switch. */
export interface Flag {
  name: string;
  short?: string;
  /** Another name for the same flag. */
  alias?: string;
  /** What the value is called in help: "FILE". */
  value?: string;
  /** May be given more than once. */
  multiple?: boolean;
  help: string;
}

/** A command of the command line. Help comes from here; adding one is a file and its line in commands/index.ts. */
export interface Command {
  /** Words that select it: `["ipam", "show"]`. */
  words: readonly string[];
  /** One line. */
  summary: string;
  /** What follows the words: `KIND [NAME...]`. */
  usage: string;
  flags: readonly Flag[];
  /** Number of words that must follow; undefined = the command looks for itself. */
  takes?: number;
  /** Least number of words that must follow. */
  atLeast?: number;
  /** Looks by itself whether what it writes, as a whole, cuts its user off. */
  guardsItself?: boolean;
  /** Works without a datastore, or does not care for its version. */
  anyVersion?: boolean;
  /** Put before the message of a failed version check. */
  failure?: string;
  examples?: readonly string[];
  /** Runs it. @returns the exit code. Problems that it throws are printed and exit with 1. */
  run(call: Call): Promise<number>;
}

/** One call of a command. */
export interface Call {
  readonly args: readonly string[];
  readonly flags: FlagValues;
  readonly surroundings: Surroundings;
  /** All commands, for those that tell of them. */
  readonly commands: readonly Command[];
  /** The datastore, connected when it is first asked for. */
  resources(): Promise<Resources>;
  /** What the command must not cut by accident. */
  lifelines(): Promise<Lifelines>;
}

/** Values of the flags that were given. */
export class FlagValues {
  constructor(private readonly values: ReadonlyMap<string, readonly string[]>) {}

  /** True when a switch was given, or given as true. */
  on(name: string): boolean {
    return this.values.has(name) && this.text(name) !== "false";
  }

  /** The last value; undefined when the flag was not given. */
  text(name: string): string | undefined {
    return this.values.get(name)?.at(-1);
  }

  /** All values, in order. */
  texts(name: string): readonly string[] {
    return this.values.get(name) ?? [];
  }
}

/** The flag of commands that may cut their user off: whoever has it is guarded against that. */
export const forceFlag: Flag = {
  name: "force",
  help: "go on even if that cuts your own session, or a host from the datastore",
};

/** Flags that every command has. */
export const commonFlags: readonly Flag[] = [
  {
    name: "config",
    short: "c",
    value: "FILE",
    help: "how to connect, as YAML or JSON; default /etc/calico/calicoctl.cfg",
  },
  { name: "context", value: "NAME", help: "which document of a config file with several, by its name" },
  { name: "log-level", short: "l", value: "LEVEL", help: "panic, fatal, error, warn, info or debug" },
  { name: "allow-version-mismatch", help: "go on when the cluster runs another version" },
  { name: "help", short: "h", help: "show this" },
];

const logLevels = ["panic", "fatal", "error", "warn", "info", "debug"];

/**
 * Takes flags and words apart as calicoctl does: flags may stand anywhere, `--` ends them, short switches may be joined.
 * @throws Problem "bad-input" in calicoctl's words.
 */
export function parseArguments(
  args: readonly string[],
  flags: readonly Flag[],
): { words: string[]; flags: FlagValues } {
  const words: string[] = [];
  const values = new Map<string, string[]>();
  const queue = [...args];
  const valueOf = (flag: Flag, said: string, given: string | undefined): string => {
    if (!flag.value) return given ?? "true";
    const value = given ?? queue.shift();
    if (value === undefined) throw badInput(`flag needs an argument: ${said}`);
    return value;
  };
  const add = (flag: Flag, value: string) => values.set(flag.name, [...values.get(flag.name) ?? [], value]);
  for (let arg = queue.shift(); arg !== undefined; arg = queue.shift()) {
    if (arg === "--") words.push(...queue.splice(0));
    else if (arg.startsWith("--")) {
      const [name, given] = splitOnce(arg.slice(2));
      const flag = flags.find((f) => f.name === name || f.alias === name);
      if (!flag) throw badInput(`unknown flag: --${name}`);
      add(flag, valueOf(flag, `--${name}`, given));
    } else if (arg.startsWith("-") && arg !== "-") {
      for (let rest = arg.slice(1); rest !== "";) {
        const flag = flags.find((f) => f.short?.includes(rest[0]!));
        if (!flag) throw badInput(`unknown shorthand flag: '${rest[0]}' in ${arg}`);
        const attached = rest.slice(1).replace(/^=/, "");
        const given = flag.value && rest.length > 1 ? attached : undefined;
        add(flag, valueOf(flag, `'${rest[0]}' in ${arg}`, given));
        rest = flag.value ? "" : rest.slice(1);
      }
    } else words.push(arg);
  }
  const level = values.get("log-level")?.at(-1);
  if (level !== undefined && !logLevels.includes(level)) {
    throw badInput(`unknown log level: ${level}, expected one of: ${logLevels.join(", ")}`);
  }
  return { words, flags: new FlagValues(values) };
}

/** The value of `-o` of a command that prints text for people and JSON for programs. @throws Problem "bad-input". */
export function outputOf({ flags }: Pick<Call, "flags">): "text" | "json" {
  const output = flags.text("output") ?? "text";
  if (output === "text" || output === "json") return output;
  throw badInput(`unrecognized output format '${output}'`);
}

/** A wrong command line. */
export const badInput = (what: string, todo?: string): Problem => new Problem({ code: "bad-input", what, todo });

/** `name=value`, or the name alone. */
function splitOnce(text: string): [string, string | undefined] {
  const at = text.indexOf("=");
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}
