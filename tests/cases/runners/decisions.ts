import { fromScratch } from "../../../agent/calc/from_scratch.ts";
import { applyDelta } from "../../../agent/calc/apply_delta.ts";
import { emptyState } from "../../../agent/calc/from_scratch.ts";
import { Graph } from "../../../agent/calc/graph.ts";
import { type Decider, type Packet, type Stage, type Verdict, verdictOf } from "../../../agent/calc/verdict.ts";
import type { Direction, PolicyId } from "../../../agent/desired_policy.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { parseIp } from "../../../lib/ip.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

interface CasePacket {
  endpoint: string;
  dir: Direction;
  src: string;
  dst: string;
  proto: number;
  sport: number;
  dport: number;
  icmpType?: number;
  icmpCode?: number;
  method?: string;
  path?: string;
  stage?: Stage;
}

interface Decision {
  verdict: string;
  rule: string;
  logged?: string[];
}

/** decisions.json: packets held against policies; both calculations must give the verdict that Calico gives. */
export const runner: CaseRunner = {
  run(one: Case): Outcome {
    const { resources, host, packets } = one.input as { resources: Resource[]; host: string; packets: CasePacket[] };
    const graph = new Graph({ node: host });
    graph.update(resources.map((set) => ({ set })));
    const state = emptyState();
    applyDelta(state, graph.flush());
    const plain = resources.some((r) => r.kind === "EndpointSlice") ? state : fromScratch(resources, host);
    const expected = (one.expect as { decisions: Decision[] }).decisions;
    const wrong: string[] = [];
    for (const [i, packet] of packets.entries()) {
      for (const s of [state, plain]) {
        const endpoint = [...s.endpoints.values()].find((e) => nameOf(e.id) === packet.endpoint);
        if (!endpoint) {
          wrong.push(`packet ${i}: no endpoint ${packet.endpoint}`);
          continue;
        }
        const got = shown(verdictOf(s, endpoint, packet.dir, packetOf(packet), packet.stage));
        const want = expected[i]!;
        const same = got.verdict === want.verdict && got.rule === want.rule &&
          got.logged.join() === (want.logged ?? []).join();
        if (!same) {
          wrong.push(`${JSON.stringify(packet)}\nexpected ${JSON.stringify(want)}\ngot ${JSON.stringify(got)}`);
        }
      }
    }
    return wrong.length === 0 ? { is: "passed" } : { is: "failed", difference: wrong.join("\n") };
  },
};

function packetOf(p: CasePacket): Packet {
  const packet: Packet = {
    src: parseIp(p.src),
    dst: parseIp(p.dst),
    protocol: p.proto,
    srcPort: p.sport,
    dstPort: p.dport,
  };
  if (p.icmpType !== undefined) packet.icmp = { type: p.icmpType, code: p.icmpCode ?? 0 };
  if (p.method !== undefined || p.path !== undefined) packet.http = { method: p.method ?? "", path: p.path ?? "" };
  return packet;
}

function nameOf(id: string): string {
  const name = id.slice(id.indexOf(":") + 1);
  if (!id.startsWith("WorkloadEndpoint:")) return name;
  const [namespace, endpoint] = name.split("/") as [string, string];
  return `${namespace}/${endpoint.replaceAll("--", "\0").split("-").map((s) => s.replaceAll("\0", "-"))[2]}`;
}

function shown(v: Verdict): { verdict: string; rule: string; logged: string[] } {
  const rule = (r: { policy: PolicyId; index: number }) => `${r.policy}[${r.index}]`;
  return { verdict: v.verdict, rule: words(v.decider, rule), logged: v.logged.map(rule) };
}

function words(d: Decider, rule: (r: { policy: PolicyId; index: number }) => string): string {
  switch (d.by) {
    case "rule":
      return rule(d);
    case "tier":
      return `end of tier ${d.tier}`;
    case "no forward policy":
      return "no forward policy on this endpoint";
    default:
      return d.by;
  }
}
