import { check } from "../check.ts";

/** Deletions that etcd has not seen for so long, in ms, do not drain. */
const pendingMs = 60_000;

/** The agent of this host, and who is in its way. */
export const agentChecks = [
  check({
    id: "agent-away",
    about: "the agent runs",
    looksAt: ["agent"],
    fault: "no agent listens at {socket}",
    cure:
      "`systemctl start tortie` (or `tortie node`); `journalctl -u tortie` tells why it ended. What is programmed stays " +
      "in force; new pods wait.",
    find: ({ agent }) => agent.silent === "away" ? [{ socket: agent.socket }] : [],
  }),
  check({
    id: "agent-silent",
    about: "the agent answers",
    looksAt: ["agent"],
    fault: "the agent does not answer at {socket}: {why}",
    cure: "See `journalctl -u tortie` and the machine's load; `systemctl restart tortie` disturbs no connection.",
    find: ({ agent: { silent, socket } }) => silent && silent !== "away" ? [{ socket, why: silent }] : [],
  }),
  check({
    id: "agent-not-ready",
    about: "the agent is in sync",
    looksAt: ["agent"],
    fault: "the agent is not ready: {why}",
    cure: "While it starts, wait; else cure what it names. `curl localhost:9099/readyz` lists its parts.",
    find: ({ agent }) => agent.ready === false ? [{ why: agent.why ?? "starting" }] : [],
  }),
  check({
    id: "agent-other-node",
    about: "the agent serves the node that this host is",
    looksAt: ["agent", "host"],
    fault: "the agent serves node {node}, and this host is called {own}",
    cure: "Set NODENAME for the agent and for this command alike, or correct /var/lib/calico/nodename.",
    find: ({ agent, host }) =>
      agent.node !== undefined && agent.node !== host.nodeName ? [{ node: agent.node, own: host.nodeName }] : [],
  }),
  check({
    id: "agent-old-program",
    about: "the agent runs the program that is installed",
    looksAt: ["agent"],
    fault: "the agent still runs an older {program}, whose file was replaced",
    cure: "`systemctl restart tortie` disturbs no connection.",
    find: ({ agent }) => agent.replacedProgram ? [{ program: agent.replacedProgram }] : [],
  }),
  check({
    id: "policy-not-in-force",
    about: "policy is in the kernel as wanted",
    looksAt: ["agent"],
    fault: "policy is not in force as wanted: {where}: {why}",
    cure: "Cure what it names; the agent tries again by itself. What it could not write denies.",
    find: ({ agent }) => agent.policyFailed.map((failed) => ({ ...failed })),
  }),
  check({
    id: "object-refused",
    about: "every object is in force as it was written",
    looksAt: ["agent"],
    fault: "{object} is not in force as it was written: {why}",
    cure: "Correct the object; `tortie ctl validate -f FILE` tells before it is stored.",
    find: ({ agent }) => agent.refused.map((refused) => ({ ...refused })),
  }),
  check({
    id: "deletions-pending",
    about: "deletions of pods reach the datastore",
    looksAt: ["agent"],
    fault: "{count} deletion(s) of pods have not reached the datastore for {seconds} s: their addresses stay taken",
    cure: "Cure agent and datastore; the journal in /var/lib/tortie/pending-del is then replayed by itself.",
    find: ({ agent: { pending: { count, oldestMs } } }) =>
      count > 0 && oldestMs > pendingMs ? [{ count, seconds: Math.round(oldestMs / 1000) }] : [],
  }),
  check({
    id: "stranger-running",
    about: "nobody else programs this host",
    looksAt: ["strangers"],
    fault: "{program} (process {pid}) runs beside us and programs the same rules and routes",
    cure: "Stop one of the two: `systemctl disable --now calico-node`, or remove the calico-node pod from this node.",
    find: ({ strangers }) => strangers.map((stranger) => ({ ...stranger })),
  }),
];
