import type { Command } from "../command.ts";
import type { NodeView, SessionView } from "../surroundings.ts";
import { boxTable } from "../table.ts";

/** `node status`: what runs on this host, and its BGP sessions. */
export const nodeStatus: Command = {
  words: ["node", "status"],
  summary: "Show what runs on this host and its BGP sessions",
  usage: "",
  flags: [],
  anyVersion: true,
  async run(call) {
    const { surroundings } = call;
    const { agent, sessions } = await surroundings.node();
    if (agent === undefined && sessions === undefined) {
      surroundings.err("Calico process is not running.\n");
      return 1;
    }
    surroundings.out(nodeText({ agent, sessions }));
    return 0;
  },
};

/** The text of `node status`; one of agent and BIRD runs. */
export function nodeText({ agent, sessions }: NodeView): string {
  const head = agent === undefined ? "Calico process is not running." : "Calico process is running.";
  const problems = agent?.problems.map((p) => `WARNING: ${p}\n`).join("") ?? "";
  if (sessions === undefined) return `${head}\n${problems}\nThe BGP backend process (BIRD) is not running.\n`;
  return `${head}\n${problems}\n${familyText(4, sessions)}${familyText(6, sessions)}`;
}

function familyText(family: 4 | 6, sessions: readonly SessionView[]): string {
  const own = sessions.filter((s) => s.family === family);
  if (own.length === 0) return `No IPv${family} peers found.\n\n`;
  const rows = own.map((s) => [s.peer, s.type, s.protocolState, s.since, s.info]);
  return `IPv${family} BGP status\n${boxTable(["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], rows)}\n`;
}
