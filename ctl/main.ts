import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import { Resources } from "../datastore/resources.ts";
import type { Store } from "../datastore/store.ts";
import { type Call, type Command, commonFlags, type FlagValues, forceFlag, parseArguments } from "./command.ts";
import { connectionOptions, MissingConfig } from "./config.ts";
import type { Lifelines } from "./cut.ts";
import { commandHelp, overview } from "./help.ts";
import { nearest } from "../lib/nearest.ts";
import { processSurroundings } from "./process_surroundings.ts";
import type { Surroundings } from "./surroundings.ts";
import { checkVersion } from "./version_check.ts";

/** `tortie ctl`, also called as `calicoctl`. @returns the exit code: 0 done, 1 anything else. */
export const main = (args: string[]): Promise<number> => runCtl(args, processSurroundings());

/** The command line in given surroundings. @returns the exit code. */
export async function runCtl(args: string[], surroundings: Surroundings): Promise<number> {
  try {
    const commands = await commandsFor(args);
    const command = commandFor(args, commands);
    if (!command) return overviewOrUnknown(args, surroundings, commands);
    const { words, flags } = parseArguments(args, [...command.flags, ...commonFlags]);
    if (flags.on("help")) {
      surroundings.out(commandHelp(command, surroundings.program));
      return 0;
    }
    const rest = words.slice(command.words.length);
    if (command.atLeast !== undefined && rest.length < command.atLeast) {
      surroundings.err(`requires at least ${command.atLeast} arg(s), only received ${rest.length}\n`);
      return 1;
    }
    if (command.takes !== undefined && rest.length !== command.takes) {
      surroundings.err(`accepts ${command.takes} arg(s), received ${rest.length}\n`);
      return 1;
    }
    return await runCommand(command, rest, flags, surroundings, commands);
  } catch (error) {
    return tell(error, surroundings);
  }
}

/** The commands that a line may mean: `get`, which is called most of all, does not wait for the others to be loaded. */
async function commandsFor(args: string[]): Promise<readonly Command[]> {
  if (args[0] === "get") return [(await import("./commands/get.ts")).get];
  return (await import("./commands/index.ts")).commands;
}

async function runCommand(
  command: Command,
  args: string[],
  flags: FlagValues,
  surroundings: Surroundings,
  commands: readonly Command[],
): Promise<number> {
  let store: Store | undefined;
  const resources = async () => {
    store ??= await connect(flags, surroundings);
    const { clock, uuid, author } = surroundings;
    const isGuarded = command.flags.includes(forceFlag) && !command.guardsItself && !flags.on(forceFlag.name);
    const guarded = isGuarded ? (await import("./cut_guard.ts")).guardedStore(store, lifelines) : store;
    return new Resources(guarded, { clock, uuid, author: author?.() });
  };
  const lifelines = async (): Promise<Lifelines> => ({
    session: await surroundings.session?.(),
    datastore: (await connectionOptions(flags.text("config"), surroundings, flags.text("context"))).endpoints,
  });
  const call: Call = { args, flags, surroundings, commands, resources, lifelines };
  try {
    if (!command.anyVersion && !flags.on("allow-version-mismatch")) await checkVersion(call, command.failure);
    return await command.run(call);
  } finally {
    await store?.[Symbol.asyncDispose]();
  }
}

async function connect(flags: FlagValues, surroundings: Surroundings): Promise<Store> {
  try {
    return await surroundings.openStore(
      await connectionOptions(flags.text("config"), surroundings, flags.text("context")),
    );
  } catch (error) {
    if (error instanceof MissingConfig) throw error;
    throw new ConnectionProblem(messageOf(error));
  }
}

/** The datastore cannot be reached for a reason that the user's settings give. */
class ConnectionProblem extends Error {}

/** Prints what went wrong where calicoctl prints it. */
function tell(error: unknown, surroundings: Surroundings): number {
  if (error instanceof MissingConfig) surroundings.out(`${error.message}\n`);
  else if (error instanceof ConnectionProblem) {
    surroundings.out(`Failed to create Calico API client: ${error.message}\n`);
  } else if (error instanceof Problem) {
    surroundings.err(`${error.message}\n`);
    const hints = surroundings.terminal && error.code === "bad-input" ? error.fields ?? [] : [];
    for (const { field, reason } of hints) surroundings.err(`  ${field ? `${field}: ` : ""}${reason}\n`);
  } else throw error;
  return 1;
}

/** The command with the most words that begin `args`; flags between them do not count. */
function commandFor(args: string[], commands: readonly Command[]): Command | undefined {
  const words = wordsOf(args, commands);
  return commands.filter((c) => c.words.every((word, i) => words[i] === word))
    .sort((a, b) => b.words.length - a.words.length)[0];
}

/** What stands beside flags and their values, whichever command they turn out to belong to. */
function wordsOf(args: string[], commands: readonly Command[]): string[] {
  const flags = [...commonFlags, ...commands.flatMap((command) => command.flags)];
  const takesNext = (arg: string): boolean => {
    if (arg.startsWith("--")) return flags.some((f) => f.value && (arg === `--${f.name}` || arg === `--${f.alias}`));
    return flags.some((f) => f.value && f.short?.includes(arg.at(-1)!)) && /^-[A-Za-z]+$/.test(arg);
  };
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (!args[i]!.startsWith("-") || args[i] === "-") words.push(args[i]!);
    else if (takesNext(args[i]!)) i++;
  }
  return words;
}

function overviewOrUnknown(args: string[], surroundings: Surroundings, commands: readonly Command[]): number {
  const { words } = isHelp(args) ? { words: [] } : tryParse(args, commands);
  const group = commands.some((c) => c.words[0] === words[0]) ? words[0]! : undefined;
  if (words.length === 0 || words[0] === "help" || (group && words.length === 1)) {
    surroundings.out(overview(commands, surroundings.program, group));
    return 0;
  }
  surroundings.err(`unknown command "${group ? words.join(" ") : words[0]}" for "calicoctl"\n`);
  const guess = nearest(words.slice(0, 2).join(" "), commands.map((c) => c.words.join(" "))) ??
    nearest(words[0]!, commands.map((c) => c.words[0]!));
  if (guess && surroundings.terminal) surroundings.err(`  did you mean ${guess}?\n`);
  return 1;
}

const isHelp = (args: string[]): boolean => args.length === 0 || args.includes("--help") || args.includes("-h");

/** The words of a command line whose command is not known. */
function tryParse(args: string[], commands: readonly Command[]): { words: string[] } {
  try {
    return parseArguments(args, commonFlags);
  } catch (error) {
    if (!isProblem(error, "bad-input")) throw error;
    return { words: wordsOf(args, commands) };
  }
}
