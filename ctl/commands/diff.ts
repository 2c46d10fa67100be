import type { Command } from "../command.ts";
import { preview, previewStaged } from "../preview.ts";
import { fileFlags } from "../writing.ts";

/** `diff`: which verdicts change when objects are applied. Calico has no such command. */
export const diff: Command = {
  words: ["diff"],
  summary:
    "Tell which endpoint pairs, ports and host services change verdict when a file, or what is staged, is applied",
  usage: "-f FILE | --staged [KIND [NAME...]]",
  flags: [...fileFlags, { name: "staged", help: "what staged policies would change" }, {
    name: "output",
    short: "o",
    value: "FORMAT",
    help: "text or json",
  }],
  examples: ["diff -f policies/", "diff -f new.yaml -o json", "diff --staged", "diff --staged snp allow-web -n shop"],
  run: (call) => (call.flags.on("staged") ? previewStaged(call) : preview(call)),
};
