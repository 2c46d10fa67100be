import { parseJson } from "../../lib/json64.ts";
import { isProblem, messageOf } from "../../lib/problem.ts";
import { durationMs } from "../../datastore/duration.ts";
import type { DropReport } from "../../agent/drops/report.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { dropText, type ToldDrop, toldDrop } from "../../agent/drops/words.ts";
import { LiveWorld } from "../../agent/why/live_world.ts";

/** `watch drops`: what this host drops, while it happens, in the words of `why`. Calico has no such command. */
export const watchDrops: Command = {
  words: ["watch", "drops"],
  summary: "Show packets that this host drops, as it happens, and which policy and rule decides",
  usage: "[NAMESPACE/POD | NODE | ADDRESS]...",
  flags: [
    { name: "output", short: "o", value: "FORMAT", help: "text, or json: one object a line" },
    { name: "json", help: "the same as -o json" },
    { name: "for", value: "DURATION", help: "end after so long; default 1h, at most 24h" },
  ],
  anyVersion: true,
  examples: ["watch drops", "watch drops shop/web-7 --for 5m", "drops --json"],
  run,
};

/** `drops`: the short name. */
export const drops: Command = { ...watchDrops, words: ["drops"], summary: "The same as watch drops" };

async function run(call: Call): Promise<number> {
  const { flags, surroundings, args } = call;
  const output = flags.on("json") ? "json" : flags.text("output") ?? "text";
  if (!["text", "json"].includes(output)) throw badInput(`unrecognized output format '${output}'`);
  const agent = await surroundings.agent?.();
  if (!agent) throw badInput("this command looks at the host that it runs on");
  const signal = (await surroundings.host()).interruption();
  const stop = new AbortController();
  const world = await knownWorld(call, AbortSignal.any([signal, stop.signal]));
  try {
    for await (const line of agent.lines(`/v1/drops?for=${seconds(flags.text("for"))}`, signal)) {
      if (line === "") continue;
      const report = parseJson(line) as unknown as DropReport;
      if (report.is === "drop" && !concerns(toldDrop(report, world?.now()), args)) continue;
      if (output === "json") surroundings.out(`${JSON.stringify(jsonOf(report, world))}\n`);
      else if (report.is === "drop") surroundings.out(dropText(report, world?.now()));
      else surroundings.err(`${otherText(report)}\n`);
    }
  } finally {
    stop.abort();
  }
  return 0;
}

function seconds(text: string | undefined): number {
  const ms = text === undefined ? 3_600_000 : durationMs(text);
  if (ms !== undefined && ms > 0 && ms <= 86_400_000) return ms / 1000;
  throw badInput(`--for: ${text} is no duration up to 24h`, "write 30s, 5m or 1h");
}

/** Names and reasons come from the datastore; without it drops are told all the same. */
async function knownWorld(call: Call, signal: AbortSignal): Promise<LiveWorld | undefined> {
  try {
    const { store } = await call.resources();
    return await LiveWorld.open(store, call.surroundings.clock, signal);
  } catch (error) {
    if (signal.aborted || isProblem(error, "bad-input")) throw error;
    call.surroundings.err(`The datastore cannot be read, so names and reasons are left out: ${messageOf(error)}\n`);
    return undefined;
  }
}

/** True when one of the words names an end of the drop, or none was given. */
function concerns({ source, destination, from, to, endpoint }: ToldDrop, words: readonly string[]): boolean {
  const names = [source, destination, from, to, from?.replace(/^host /, ""), to?.replace(/^host /, ""), endpoint];
  return words.length === 0 || words.some((word) => names.includes(word));
}

const jsonOf = (report: DropReport, world: LiveWorld | undefined): unknown =>
  report.is === "drop" ? toldDrop(report, world?.now()) : report;

function otherText(report: Exclude<DropReport, { is: "drop" }>): string {
  if (report.is === "watching") return `watching what ${report.node} drops; Ctrl-C ends it`;
  if (report.is === "left out") return `${report.packets} more packets were dropped and are not shown one by one`;
  return `the end: ${report.why}`;
}
