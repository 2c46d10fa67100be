import { kinds } from "../datastore/kinds/index.ts";
import { type Command, commonFlags } from "./command.ts";

/** Shells that a script can be made for. */
export const shells = ["bash", "zsh", "fish"] as const;

/** A shell that a script can be made for. */
export type Shell = typeof shells[number];

/** What may follow what has been typed: words of commands, kinds after commands that take one, flags after a dash. */
interface Level {
  /** Words so far, joined by a blank; "" at the beginning. */
  path: string;
  next: string[];
  flags: string[];
}

const takesKind = ["get", "delete", "label", "patch", "edit"];

/** The levels of all commands, from their declarations. */
function levels(commands: readonly Command[]): Level[] {
  const paths = new Set([""]);
  for (const { words } of commands) for (let n = 1; n <= words.length; n++) paths.add(words.slice(0, n).join(" "));
  return [...paths].map((path) => {
    const depth = path === "" ? 0 : path.split(" ").length;
    const below = commands.filter((c) => c.words.length > depth && c.words.slice(0, depth).join(" ") === path);
    const own = commands.find((c) => c.words.join(" ") === path);
    return {
      path,
      next: [...new Set(below.map((c) => c.words[depth]!)), ...(takesKind.includes(path) ? kindWords() : [])].sort(),
      flags: [...own?.flags ?? [], ...commonFlags].map((flag) => `--${flag.name}`).sort(),
    };
  });
}

const kindWords = (): string[] => kinds.filter((kind) => !kind.internal).map((kind) => kind.plural);

/**
 * A script that lets a shell complete words of commands, kinds and flags. It asks nobody while one types.
 * @param program what is completed: `calicoctl`, or `tortie`, whose commands then follow the word `ctl`.
 */
export function completionScript(shell: Shell, commands: readonly Command[], program: string): string {
  const all = levels(commands);
  if (shell === "fish") return fishScript(all, program);
  const name = program.replace(/\W/g, "_");
  const cases = all.map(({ path, next, flags }) =>
    `    "${path}") next="${next.join(" ")}"; flags="${flags.join(" ")}" ;;`
  ).join("\n");
  const paths = all.map(({ path }) => path).filter((path) => path !== "");
  const core = `_${name}_words() {
  local word typed="" longer
  for word in "\$@"; do
    case "$word" in -*) continue ;; esac
    longer="\${typed:+$typed }$word"
    case "$longer" in
${paths.map((path) => `      "${path}") typed="$longer" ;;`).join("\n")}
    esac
  done
  case "$typed" in
${cases}
  esac
}
`;
  return shell === "bash" ? bashScript(core, name, program) : zshScript(core, name, program);
}

/** Words before the commands: `tortie ctl get`, but `calicoctl get`. */
const skipped = (program: string): number => (program === "calicoctl" ? 1 : 2);

/** A line that is needed where a word comes before the commands. */
const first = (program: string, line: string): string => (skipped(program) === 1 ? "" : line);

function bashScript(core: string, name: string, program: string): string {
  const command = program.split(" ")[0]!;
  return `# bash completion of ${program}; source it, or put it into /etc/bash_completion.d
${core}
_${name}_complete() {
  local next flags current="\${COMP_WORDS[COMP_CWORD]}"
${
    first(program, '  if (( COMP_CWORD < 2 )); then COMPREPLY=(\$(compgen -W ctl -- "$current")); return; fi\n')
  }  _${name}_words "\${COMP_WORDS[@]:${skipped(program)}:COMP_CWORD-${skipped(program)}}"
  case "$current" in
    -*) COMPREPLY=(\$(compgen -W "$flags" -- "$current")) ;;
    *) COMPREPLY=(\$(compgen -W "$next" -- "$current")) ;;
  esac
}
complete -o default -F _${name}_complete ${command}
`;
}

function zshScript(core: string, name: string, program: string): string {
  const command = program.split(" ")[0]!;
  return `#compdef ${command}
# zsh completion of ${program}; put it into a folder of $fpath as _${command}
${core}
_${name}_complete() {
  local next flags
${first(program, "  if (( CURRENT < 3 )); then compadd ctl; return; fi\n")}  _${name}_words "\${(@)words[${
    skipped(program) + 1
  },CURRENT-1]}"
  if [[ "$words[CURRENT]" == -* ]]; then compadd -- \${=flags}; else compadd -- \${=next}; _files; fi
}
compdef _${name}_complete ${command}
`;
}

function fishScript(all: Level[], program: string): string {
  const command = program.split(" ")[0]!;
  const start = program === "calicoctl" ? "" : "ctl ";
  const lines = all.flatMap(({ path, next, flags }) => {
    const words = `${start}${path}`.trim();
    const typed = `string match -qr -- '^${words}( |$)' (string join ' ' (commandline -opc)[2..])`;
    const exactly = `string match -q -- '${words}' (string join ' ' (commandline -opc)[2..])`;
    return [
      ...(next.length > 0 ? [`complete -c ${command} -f -n "${exactly}" -a '${next.join(" ")}'`] : []),
      ...(path === "" ? [] : flags.map((flag) => `complete -c ${command} -n "${typed}" -l ${flag.slice(2)}`)),
    ];
  });
  if (start) lines.unshift(`complete -c ${command} -f -n __fish_use_subcommand -a ctl`);
  return `# fish completion of ${program}; put it into ~/.config/fish/completions/${command}.fish\n${
    lines.join("\n")
  }\n`;
}
