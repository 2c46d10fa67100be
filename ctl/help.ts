import { type Command, commonFlags, type Flag } from "./command.ts";

/** All commands, or those of a group such as "ipam", one a line. */
export function overview(commands: readonly Command[], program: string, group?: string): string {
  const shown = commands.filter((c) => group === undefined || c.words[0] === group);
  const rows = shown.map((c): [string, string] => [c.words.join(" "), c.summary]);
  return `${program}: look at and change the cluster\n\n${aligned(rows)}\n` +
    `${program} COMMAND --help tells of one command.\n`;
}

/** Usage, flags and examples of one command. */
export function commandHelp(command: Command, program: string): string {
  const name = `${program} ${command.words.join(" ")}`;
  const flags = [...command.flags, ...commonFlags].map((flag): [string, string] => [flagText(flag), flag.help]);
  const examples = command.examples?.length ? `\nExamples:\n${command.examples.map((e) => `  ${e}\n`).join("")}` : "";
  return `${command.summary}\n\nUsage: ${`${name} ${command.usage}`.trim()} [FLAGS]\n\nFlags:\n${
    aligned(flags)
  }${examples}`;
}

function flagText({ name, short, alias, value, multiple }: Flag): string {
  const shorts = [...short ?? ""].map((s) => `-${s}, `).join("");
  return `${shorts}--${name}${alias ? `, --${alias}` : ""}${value ? ` ${value}` : ""}${multiple ? " ..." : ""}`;
}

function aligned(rows: [string, string][]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}   ${right}\n`).join("");
}
