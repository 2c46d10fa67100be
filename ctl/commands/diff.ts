import type { Command } from "../command.ts";
import { preview } from "../preview.ts";
import { fileFlags } from "../writing.ts";

/** `diff`: which verdicts change when objects are applied. Calico has no such command. */
export const diff: Command = {
  words: ["diff"],
  summary: "Tell which endpoint pairs, ports and host services change verdict when a file is applied",
  usage: "-f FILE",
  flags: [...fileFlags, { name: "output", short: "o", value: "FORMAT", help: "text or json" }],
  examples: ["diff -f policies/", "diff -f new.yaml -o json"],
  run: preview,
};
