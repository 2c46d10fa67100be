import { parseRfc3339, rfc3339 } from "../../lib/clock.ts";
import { confirmPending, type PendingFound, readPending, undoPending } from "../../datastore/pending.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { changedObjects, choosePending, lastUndone, undoneText } from "../confirming.ts";
import { Problem } from "../../lib/problem.ts";

/** `confirm`: keeps what `apply --confirm` applied. Calico has no such command. */
export const confirm: Command = {
  words: ["confirm"],
  summary: "Keep a change that was applied with --confirm, before it is undone",
  usage: "[CHANGE]",
  flags: [
    { name: "list", help: "tell which changes wait, and which was undone last" },
    { name: "undo", help: "undo the change now" },
  ],
  examples: ["confirm", "confirm --list", "confirm 3f2a91c4 --undo"],
  run,
};

async function run(call: Call): Promise<number> {
  const { args, flags, surroundings } = call;
  if (args.length > 1) throw badInput("one change at a time");
  const { store } = await call.resources();
  const all = await readPending(store, (key, why) => surroundings.err(`${key} cannot be understood: ${why}\n`));
  if (flags.on("list")) {
    for (const found of all) surroundings.out(pendingText(found, surroundings.clock.now()));
    if (all.length === 0) surroundings.out("no change waits to be confirmed\n");
    const undone = await lastUndone(store);
    if (undone) surroundings.out(undoneText(undone));
    return 0;
  }
  const found = choosePending(all, args[0]), { id } = found.change;
  if (flags.on("undo")) {
    const at = rfc3339(surroundings.clock.now()), by = surroundings.author?.() ?? { user: "", host: "" };
    const undone = await undoPending(store, found, by, at);
    if (!undone) throw tooLate(id);
    surroundings.out(undoneText({ id, at, by, ...undone }));
    return undone.kept.length > 0 ? 1 : 0;
  }
  if (!await confirmPending(store, found)) throw tooLate(id);
  surroundings.out(`change ${id} stays\n`);
  return 0;
}

const tooLate = (id: string): Problem =>
  new Problem({ code: "not-found", what: `change ${id} has just been confirmed or undone by somebody else` });

/** The time of day is only told; it decides nothing. */
function pendingText(found: PendingFound, nowMs: number): string {
  const { id, at, by, seconds } = found.change;
  const endMs = (parseRfc3339(at) ?? nowMs) + seconds * 1000;
  const left = found.isOver ? "its time is over" : `about ${Math.max(0, Math.round((endMs - nowMs) / 1000))} s left`;
  const who = [by.user, by.from && `from ${by.from}`, `on ${by.host}`].filter(Boolean).join(" ");
  return `${id}  ${left}, by ${who} at ${at}\n${changedObjects(found).map((o) => `  ${o}\n`).join("")}`;
}
