import { writeJson } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import type { State } from "../../datastore/history.ts";
import type { Resources } from "../../datastore/resources.ts";
import { badInput, type Call, type Command, forceFlag, outputOf } from "../command.ts";
import { asItWas, changeText, type Past, pastOf } from "../past.ts";

/** `rollback`: brings back what an object was before. Calico has no such command. */
export const rollback: Command = {
  words: ["rollback"],
  summary: "Bring back what an object was before its last change, or an older state of its history",
  usage: "KIND NAME [--to NO]",
  flags: [
    forceFlag,
    { name: "namespace", short: "n", value: "NAME", help: "namespace of the object" },
    { name: "to", value: "NO", help: "number of the state, as history shows it" },
    { name: "dry-run", help: "write nothing and show what would change" },
    { name: "output", short: "o", value: "FORMAT", help: "text or json" },
  ],
  takes: 2,
  examples: ["rollback gnp deny-all", "rollback np -n shop web --to 3 --dry-run"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const output = outputOf(call);
  const resources = await call.resources();
  const past = await pastOf(call, resources);
  const now = past.states.at(-1)!, wanted = stateToRestore(past, flags.text("to"));
  const diff = changeText(past, now, wanted);
  const isDry = flags.on("dry-run");
  if (!isDry && diff !== "") await restore(call, resources, past, wanted);
  if (output === "json") {
    const { kind, name, namespace } = past;
    surroundings.out(
      `${
        writeJson(
          { kind, name, namespace, from: now.number, to: wanted.number, diff, written: !isDry && diff !== "" },
          2,
        )
      }\n`,
    );
    return 0;
  }
  surroundings.out(diff === "" ? `${past.id} is as in state ${wanted.number}: nothing to do\n` : diff);
  if (diff !== "" && !isDry) surroundings.out(`Successfully brought back state ${wanted.number} of ${past.id}\n`);
  return 0;
}

/** The state that was asked for; the last but one when none was. State 0 is before the object was made. */
function stateToRestore({ states, id }: Past, to: string | undefined): State {
  if (to !== undefined && !/^\d{1,9}$/.test(to)) throw badInput(`--to: ${to} is no number of a state`);
  const isWhole = states[0]!.number === 1 && states[0]!.done === "created";
  const all: State[] = isWhole ? [{ number: 0, done: "deleted" }, ...states] : states;
  const found = to === undefined ? all.at(-2) : all.find((s) => s.number === Number(to));
  if (found) return found;
  const known = all.map((s) => s.number).join(", ");
  const what = to === undefined ? `nothing is known of ${id} before its last change` : `${id} has no state ${to}`;
  throw new Problem({ code: "not-found", what, todo: `Its history has ${known}` });
}

/** Stores the state over what stands there, unless that has changed meanwhile. */
async function restore(call: Call, resources: Resources, past: Past, wanted: State): Promise<void> {
  if (wanted.done === "deleted") {
    const { removeResource } = await import("../../ipam/removal.ts");
    const { kind, name, namespace } = past;
    const revision = String(past.current!.revision);
    const resource = {
      apiVersion: "projectcalico.org/v3",
      kind,
      metadata: { name, namespace, resourceVersion: revision },
      spec: {},
    } as const;
    refuseForeign(resource, "delete");
    return await removeResource(resources, call.surroundings, resource);
  }
  const resource = asItWas(past, wanted);
  refuseForeign(resource, past.current ? "replace" : "create");
  await (past.current ? resources.update(resource) : resources.create(resource));
}
