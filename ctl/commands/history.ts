import { writeJson } from "../../lib/json64.ts";
import { type Call, type Command, outputOf } from "../command.ts";
import { authorText, changeText, type Past, pastOf } from "../past.ts";
import { type Paint, paintOf } from "../paint.ts";
import { plainTable } from "../table.ts";

/** `history`: who changed an object, what and when. Calico has no such command. */
export const history: Command = {
  words: ["history"],
  summary: "Tell who changed an object, when and what",
  usage: "KIND NAME",
  flags: [
    { name: "namespace", short: "n", value: "NAME", help: "namespace of the object" },
    { name: "diff", short: "d", help: "show what each change changed" },
    { name: "output", short: "o", value: "FORMAT", help: "text or json" },
  ],
  takes: 2,
  examples: ["history gnp deny-all", "history np -n shop web --diff"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const output = outputOf(call);
  const past = await pastOf(call, await call.resources());
  if (output === "json") surroundings.out(`${writeJson({ kind: past.kind, ...objectOf(past) }, 2)}\n`);
  else surroundings.out(flags.on("diff") ? changesText(past) : tableText(past, paintOf(surroundings)));
  return 0;
}

const objectOf = ({ name, namespace, states }: Past) => ({ name, namespace, states });

function tableText({ states }: Past, colours: Paint): string {
  const rows = states.map((s) => [
    String(s.number),
    s.at ?? "unknown",
    s.done,
    authorText(s.by),
    s.revision ?? "unknown",
    s.by?.command ?? "",
  ]);
  return plainTable(["NO", "TIME", "CHANGE", "BY", "REVISION", "COMMAND"], rows, colours);
}

function changesText(past: Past): string {
  return past.states.map((state, i) => {
    const where = `${state.number}  ${state.at ?? "unknown time"}  ${state.done} by ${authorText(state.by)}`;
    const command = state.by?.command ? `\n   ${state.by.command}` : "";
    const before = past.states[i - 1];
    const isFirstKnown = !before && state.number > 1;
    const diff = isFirstKnown ? "(what it was before is forgotten)\n" : changeText(past, before, state);
    return `${where}${command}\n${diff || "(no content changed)\n"}`;
  }).join("\n");
}
