import { deepEqual, equal, match } from "node:assert/strict";
import type { DecisionCount } from "../agent/netfilter/decision_counts.ts";
import type { Stage } from "../agent/why/node_walk.ts";
import { apiVersion, resourcePrefix } from "../datastore/kind.ts";
import { parseIp } from "../lib/ip.ts";
import type { Json } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";
import type { AgentSocket } from "../agent/agent_socket.ts";
import { type LiveCounts, liveDecision } from "./live_counts.ts";

const line = (chain: string, more: Partial<DecisionCount>): DecisionCount => ({
  ...{
    decider: { by: "tier", tier: "default" },
    direction: "ingress",
    action: "deny",
    family: 4,
    table: "filter",
    chain,
  },
  ...{ interfaceName: undefined, inKernel: true, packets: 0, bytes: 0 },
  ...more,
});
const rule = { by: "rule", policy: "NetworkPolicy:shop/db", tier: "default", index: 0 } as const;
const counts: LiveCounts = {
  ...{ node: "n1", revision: 7, interfaces: [] },
  decisions: [
    line("cali-pi-np/shop/db", { decider: rule, packets: 3, bytes: 180 }),
    line("cali-pi-np/shop/db", { decider: rule, packets: 2, bytes: 160, family: 6 }),
    line("cali-tw-calix", { packets: 5, bytes: 300, interfaceName: "calix" }),
    line("cali-tw-caliy", { packets: 99, bytes: 1, interfaceName: "caliy" }),
    line("cali-fh-any-interface-at-all", { packets: 7, bytes: 1, interfaceName: "any-interface-at-all" }),
    line("cali-fhfw-eth0", { packets: 11, bytes: 1, interfaceName: "eth0", inKernel: false }),
  ],
};
const stage = (more: Partial<Stage>): Stage => ({
  ...{ node: "n1", at: "normal", direction: "ingress", verdict: "deny", logged: [] },
  ...{ endpoint: "WorkloadEndpoint:shop/x", interfaceName: "calix", decider: { by: "tier", tier: "default" } },
  packet: { src: parseIp("10.0.0.1"), dst: parseIp("10.0.0.2"), protocol: 6, srcPort: 1, dstPort: 2 },
  ...more,
});

Deno.test("a predicted decision finds its line: of its family, its endpoint, its chain", () => {
  const packets = (more: Partial<Stage>) => liveDecision(counts, stage(more))?.packets;
  equal(packets({ decider: rule }), 3);
  equal(packets({}), 5);
  equal(packets({ endpoint: "HostEndpoint:h", interfaceName: "eth1" }), 7, "the one for every other interface");
  deepEqual(
    liveDecision(counts, stage({ endpoint: "HostEndpoint:h", interfaceName: "eth0", at: "forward" }))?.inKernel,
    false,
  );
  equal(liveDecision(counts, stage({ decider: { ...rule, index: 9 } }))?.inKernel, false, "there is no such line");
  equal(packets({ node: "n2" }), undefined, "another node's rules are not here");
  equal(packets({ decider: { by: "no host endpoint" } }), undefined);
});

const agent = (get: () => Promise<Json | undefined>): { agent: () => Promise<AgentSocket> } => ({
  agent: () => Promise.resolve({ get, lines: () => Promise.reject(new Error("not asked for")) as never }),
});

async function wide(program: string, get: () => Promise<Json | undefined>): Promise<string> {
  const store = new LastingStore();
  const policy = {
    ...{ kind: "NetworkPolicy", apiVersion, spec: { tier: "default", order: 1, selector: "all()" } },
    metadata: { name: "db", namespace: "shop", uid: "u", creationTimestamp: "2026-01-02T03:04:05Z" },
  };
  const write = [{ put: `${resourcePrefix}networkpolicies/shop/db`, value: JSON.stringify(policy) }];
  await store.txn({ compare: [], write });
  return (await memoryCtl(store, ["get", "np", "-n", "shop", "-o", "wide"], { program, ...agent(get) })).text;
}

Deno.test("get -o wide shows what rules counted, but to scripts that call calicoctl", async () => {
  const told = () => Promise.resolve(counts as unknown as Json);
  match(await wide("tortie ctl", told), /PACKETS BY RULE +BYTES[^\n]*\n[^\n]*in 0:5 +340/);
  equal((await wide("calicoctl", told)).includes("PACKETS"), false);
});

Deno.test("an agent that cannot tell, or none, leaves the table as it is", async () => {
  const refused = () => Promise.reject(new Problem({ code: "unavailable", what: "iptables-save failed" }));
  const text = await wide("tortie ctl", refused);
  match(text, /warning: what the rules have counted cannot be read: iptables-save failed/);
  match(text, /shop +db +default/);
  equal((await wide("tortie ctl", () => Promise.resolve(undefined))).includes("PACKETS"), false);
});
