import { badInput, type Command } from "../command.ts";
import { completionScript, type Shell, shells } from "../completion.ts";

/** `completion`: a script that completes words in a shell. */
export const completion: Command = {
  words: ["completion"],
  summary: "Print a script that completes commands, kinds and flags in bash, zsh or fish",
  usage: "bash|zsh|fish",
  flags: [],
  takes: 1,
  anyVersion: true,
  examples: ["completion bash > /etc/bash_completion.d/tortie"],
  run({ args, surroundings, commands }) {
    const shell = shells.find((s) => s === args[0]) as Shell | undefined;
    if (!shell) throw badInput(`"${args[0]}" is no shell that is known: ${shells.join(", ")}`);
    surroundings.out(completionScript(shell, commands, surroundings.program));
    return Promise.resolve(0);
  },
};
