import { writeJson } from "../lib/json64.ts";
import { verdictChanges } from "../agent/why/difference.ts";
import { World } from "../agent/why/world.ts";
import { Rehearsal } from "../datastore/rehearsal.ts";
import type { Store } from "../datastore/store.ts";
import { badInput, type Call } from "./command.ts";
import { newObject } from "./commands/create.ts";
import { refuseForeign } from "../datastore/foreign.ts";
import { deciderWords } from "../agent/why/words.ts";
import type { Document } from "./input.ts";
import { forEach, objectsOf, type Outcome, report } from "./writing.ts";

/** Applies objects to a copy of the datastore in memory, with every check. */
export async function rehearse(
  call: Call,
  documents: readonly Document[],
  store: Store,
): Promise<{ rehearsal: Rehearsal; outcome: Outcome }> {
  const { clock, uuid } = call.surroundings;
  const rehearsal = await Rehearsal.of(store, { clock, uuid });
  const outcome = await forEach(call, documents, (resource) => {
    refuseForeign(resource, "apply");
    return rehearsal.resources.apply(newObject(resource));
  });
  return { rehearsal, outcome };
}

/**
 * What applying the objects would change, without a write: they are applied to a copy of the datastore in memory, with
 * every check, and verdicts are compared. @returns the exit code.
 */
export async function preview(call: Call): Promise<number> {
  outputOf(call);
  const documents = await objectsOf(call);
  const { rehearsal, outcome } = await rehearse(call, documents, (await call.resources()).store);
  if (outcome.errors.length > 0) return report(call, outcome, "apply", "checked");
  tellChanges(call, new World(rehearsal.before), new World(await rehearsal.after()));
  return 0;
}

/** The same for what staged policies ask for: all of them, or those that the call's words name. @returns the exit code. */
export async function previewStaged(call: Call): Promise<number> {
  outputOf(call);
  const { stagedIn, worldsOf } = await import("./staged.ts");
  const resources = await call.resources(), { clock, uuid } = call.surroundings;
  const { before, after } = await worldsOf(await stagedIn(call, resources), resources, { clock, uuid });
  tellChanges(call, before, after);
  return 0;
}

function outputOf({ flags }: Call): string {
  const output = flags.text("output") ?? "text";
  if (!["text", "json"].includes(output)) throw badInput(`unrecognized output format '${output}'`);
  return output;
}

function tellChanges(call: Call, before: World, after: World): void {
  const { changes, asked, left } = verdictChanges(before, after);
  const told = grouped(changes);
  if (outputOf(call) === "json") call.surroundings.out(`${writeJson({ changes: told, asked, left }, 2)}\n`);
  else call.surroundings.out(textOf(told, asked, left));
}

interface Told {
  from: string;
  to: string;
  traffic: string[];
  before: string;
  after: string;
  whyBefore: string;
  whyAfter: string;
}

/** Traffic of one pair that changes in the same way, for the same reason, in one entry. */
function grouped(changes: ReturnType<typeof verdictChanges>["changes"]): Told[] {
  const groups = new Map<string, Told>();
  for (const { from, to, traffic, before, after } of changes) {
    const why = ({ stage }: typeof before) =>
      stage ? `${deciderWords(stage.decider)} (${stage.endpoint ?? `host ${stage.node}`})` : "no policy is asked";
    const entry = {
      from,
      to,
      before: before.verdict,
      after: after.verdict,
      whyBefore: why(before),
      whyAfter: why(after),
    };
    const key = JSON.stringify(entry), known = groups.get(key);
    if (known) known.traffic.push(traffic);
    else groups.set(key, { ...entry, traffic: [traffic] });
  }
  return [...groups.values()];
}

const toldInFull = 50;

function textOf(told: Told[], asked: number, left: number): string {
  const words = { allow: "ALLOWED", deny: "DENIED" } as Record<string, string>;
  const lines = told.slice(0, toldInFull).flatMap((t) => [
    `${t.from} -> ${t.to}: ${t.traffic.join(", ")}: ${words[t.before]} -> ${words[t.after]}`,
    `  before: ${t.whyBefore}`,
    `  after:  ${t.whyAfter}`,
  ]);
  if (told.length > toldInFull) lines.push(`and ${told.length - toldInFull} more pairs; -o json tells all`);
  if (told.length === 0) lines.push("no verdict changes");
  lines.push("", `${asked} questions were asked before and after; nothing was written`);
  if (left > 0) lines.push(`${left} endpoints were not asked: others with the same labels and profiles stand for them`);
  return lines.join("\n") + "\n";
}
