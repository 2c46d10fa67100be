import { writeJson } from "../../lib/json64.ts";
import { messageOf } from "../../lib/problem.ts";
import { type Call, type Command, outputOf } from "../command.ts";
import { connectionOptions } from "../config.ts";
import { paintOf } from "../paint.ts";
import { Progress } from "../progress.ts";

/** `doctor`: what is wrong here and in the cluster, and what to do about it. Calico has no such command. */
export const doctor: Command = {
  words: ["doctor"],
  summary: "Look for faults of this host and of the cluster, and tell the cure of each",
  usage: "",
  flags: [{ name: "output", short: "o", value: "FORMAT", help: "text or json" }],
  anyVersion: true,
  takes: 0,
  examples: ["doctor", "doctor -o json"],
  run,
};

/** @returns 0 healthy, 1 faults found, 2 something could not be looked at. */
async function run(call: Call): Promise<number> {
  const { surroundings } = call;
  const output = outputOf(call);
  const { checks } = await import("../doctor/checks/index.ts");
  const { examine, exitCode } = await import("../doctor/check.ts");
  const { lookAtAll } = await import("../doctor/looks/all.ts");
  const { examinationJson, examinationText } = await import("../doctor/examination_text.ts");
  const { env, clock } = surroundings;
  const datastore = await datastoreOf(call);
  const looked = await (async () => {
    using progress = new Progress(surroundings);
    return await lookAtAll({ datastore, env, clock, step: (what) => progress.step(`looking at ${what}`) });
  })();
  const examination = examine(checks, looked);
  if (output === "json") surroundings.out(`${writeJson(examinationJson(examination), 2)}\n`);
  else surroundings.out(examinationText(examination, paintOf(surroundings)));
  return exitCode(examination);
}

/** The datastore as this command would reach it, or why it cannot know how. */
async function datastoreOf(call: Call) {
  try {
    const { flags, surroundings } = call;
    const options = await connectionOptions(flags.text("config"), surroundings, flags.text("context"));
    return { options, store: (await call.resources()).store };
  } catch (error) {
    return { unseen: messageOf(error) };
  }
}
