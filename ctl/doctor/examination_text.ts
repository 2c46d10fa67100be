import type { Check, Examination, Unlooked } from "./check.ts";
import type { Paint } from "../paint.ts";

/** What the doctor says: each fault with its cure, then what it could not look at, then how much it looked at. */
export function examinationText({ faults, made, unlooked }: Examination, colours: Paint): string {
  const lines: string[] = [];
  for (const { id, what, cure } of faults) {
    lines.push(
      `${colours.red("FAULT")} ${colours.bold(what)}`,
      `      cure: ${cure}`,
      `      ${colours.dim(`check ${id}`)}`,
      "",
    );
  }
  for (const [why, ids] of byReason(unlooked.filter((u) => !u.elsewhere))) {
    lines.push(`${colours.yellow("NOT LOOKED AT")} ${ids.join(", ")}`, `      because ${why}`, "");
  }
  for (const [why, ids] of byReason(unlooked.filter((u) => u.elsewhere))) {
    lines.push(colours.dim(`not for here: ${ids.length} checks, because ${why}`));
  }
  const verdict = faults.length > 0
    ? colours.red(`${faults.length} fault(s) found`)
    : unlooked.some((u) => !u.elsewhere)
    ? colours.yellow("no fault found, and not everything could be looked at")
    : colours.green("healthy");
  return `${[...lines, `${verdict}: ${made.length} checks made`].join("\n")}\n`;
}

/** The same for programs. */
export function examinationJson({ faults, made, unlooked }: Examination): unknown {
  return {
    healthy: faults.length === 0 && unlooked.every((u) => u.elsewhere),
    faults: faults.map(({ id, what, cure, detail }) => ({ check: id, what, cure, detail })),
    notLookedAt: unlooked.map(({ id, why, elsewhere }) => ({ check: id, why, elsewhere })),
    made,
  };
}

/** The table of all checks, in Markdown. */
export const checkTable = (checks: readonly Check[]): string =>
  [
    "| check | what is well | what it says otherwise | cure |",
    "| --- | --- | --- | --- |",
    ...checks.map((c) =>
      `| \`${c.id}\` | ${[c.about, c.fault, c.cure].map((t) => t.replaceAll("|", "\\|")).join(" | ")} |`
    ),
  ].join("\n");

function byReason(unlooked: readonly Unlooked[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { id, why } of unlooked) found.set(why, [...found.get(why) ?? [], id]);
  return found;
}
