import { writeJson } from "../../lib/json64.ts";
import { type Command, outputOf } from "../command.ts";
import { type Paint, paintOf, plain } from "../paint.ts";
import type { NodeView, SessionView } from "../surroundings.ts";
import { boxTable } from "../table.ts";

/** `node status`: what runs on this host, and its BGP sessions. */
export const nodeStatus: Command = {
  words: ["node", "status"],
  summary: "Show what runs on this host and its BGP sessions",
  usage: "",
  flags: [{ name: "output", short: "o", value: "FORMAT", help: "text or json" }],
  anyVersion: true,
  async run(call) {
    const { surroundings } = call;
    const output = outputOf(call);
    const { agent, sessions } = await surroundings.node();
    if (output === "json") {
      const running = agent !== undefined || sessions !== undefined;
      surroundings.out(`${writeJson({ agent: agent ?? null, sessions: sessions ?? null }, 2)}\n`);
      return running ? 0 : 1;
    }
    if (agent === undefined && sessions === undefined) {
      surroundings.err("Calico process is not running.\n");
      return 1;
    }
    surroundings.out(nodeText({ agent, sessions }, paintOf(surroundings)));
    return 0;
  },
};

/** The text of `node status`; one of agent and BIRD runs. */
export function nodeText({ agent, sessions }: NodeView, colours: Paint = plain): string {
  const head = agent === undefined ? "Calico process is not running." : "Calico process is running.";
  const problems = agent?.problems.map((p) => `${colours.yellow("WARNING")}: ${p}\n`).join("") ?? "";
  if (sessions === undefined) return `${head}\n${problems}\nThe BGP backend process (BIRD) is not running.\n`;
  return `${head}\n${problems}\n${familyText(4, sessions, colours)}${familyText(6, sessions, colours)}`;
}

function familyText(family: 4 | 6, sessions: readonly SessionView[], colours: Paint): string {
  const own = sessions.filter((s) => s.family === family);
  if (own.length === 0) return `No IPv${family} peers found.\n\n`;
  const rows = own.map((s) => [s.peer, s.type, s.protocolState, s.since, s.info]);
  return `IPv${family} BGP status\n${
    boxTable(["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], rows, { colours })
  }\n`;
}
