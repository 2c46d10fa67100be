import { deepEqual, match, ok } from "node:assert/strict";
import type { DecisionCount } from "../agent/netfilter/decision_counts.ts";
import { apiVersion, resourcePrefix } from "../datastore/kind.ts";
import type { Json } from "../lib/json64.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";
import type { LiveCounts } from "./live_counts.ts";
import { topOf, topText } from "./top.ts";

const line = (
  decider: DecisionCount["decider"],
  action: "allow" | "deny",
  packets: number,
  interfaceName?: string,
): DecisionCount => ({
  ...{ decider, action, packets, bytes: packets * 60, interfaceName, direction: "ingress", inKernel: true },
  ...{ family: 4, table: "filter", chain: "" },
});
const rule = (policy: string, index: number) => ({ by: "rule", policy, tier: "default", index }) as const;
const count = (interfaceName: string, packets: number) => ({
  ...{ interfaceName, to: { packets, bytes: packets * 60 }, from: { packets: 1, bytes: 60 } },
});
const counts = (denied: number, allowed: number): LiveCounts => ({
  ...{ node: "n1", revision: 7 },
  decisions: [
    line(rule("NetworkPolicy:shop/a", 0), "allow", allowed),
    line(rule("NetworkPolicy:shop/a", 1), "deny", 2),
    line(rule("NetworkPolicy:shop/b", 0), "deny", 5),
    line({ by: "tier", tier: "default" }, "deny", denied, "cali1"),
    line({ by: "no profile matched" }, "deny", 0, "cali2"),
  ],
  interfaces: [count("cali2", 900), count("cali1", 10)],
});
const names = new Map([["cali1", "shop/db"]]);

Deno.test("what is dropped most comes first, endpoints by their names", () => {
  const { endpoints, policies } = topOf(counts(4, 100), names);
  deepEqual(endpoints.map((e) => [e.endpoint, e.packetsTo, e.deniedByDefault]), [["shop/db", 10, 4], [
    "cali2",
    900,
    0,
  ]]);
  deepEqual(policies.map((p) => [p.policy, p.allowed, p.denied]), [
    ["NetworkPolicy:shop/b", 0, 5],
    ["NetworkPolicy:shop/a", 100, 2],
  ]);
});

Deno.test("between two looks only what came since is told; a count that began anew is told as it is", () => {
  const { endpoints, policies } = topOf(counts(6, 30), names, counts(4, 100));
  deepEqual(endpoints.find((e) => e.interfaceName === "cali1")?.deniedByDefault, 2);
  deepEqual(policies.find((p) => p.policy.endsWith("/a"))?.allowed, 30);
  const text = topText({ ...topOf(counts(6, 30), names, counts(4, 100)), seconds: 2 }, 1);
  match(text, /DENIED BY DEFAULT\/S/);
  match(text, /shop\/db +cali1 +0 +0 +0 +1\.0/);
  match(text, /and 1 more/);
  ok(!text.includes("HOST"));
});

async function asked(agent: LiveCounts | undefined, ...args: string[]): Promise<{ code: number; text: string }> {
  const store = new LastingStore();
  const put = (key: string, value: unknown) =>
    store.txn({ compare: [], write: [{ put: key, value: typeof value === "string" ? value : JSON.stringify(value) }] });
  for (const name of ["n1", "n2"]) {
    const metadata = { name, uid: "u", creationTimestamp: "2026-01-02T03:04:05Z" };
    await put(`${resourcePrefix}nodes/${name}`, { kind: "Node", apiVersion, metadata, spec: {} });
  }
  await put("/calico/felix/v2/no-region/host/n2/last_reported_status", { time: "1970-01-01T00:00:00Z" });
  await put("/calico/felix/v2/no-region/host/n1/last_reported_status", "torn");
  const get = () => Promise.resolve(agent as unknown as Json);
  const lines = () => Promise.reject(new Error("not asked for")) as never;
  return await memoryCtl(store, ["top", ...args], { agent: () => Promise.resolve({ get, lines }) });
}

Deno.test("hosts are told anywhere; what is behind only where an agent says how far it is", async () => {
  match((await asked(undefined, "hosts")).text, /n1 +0 +- +- +\nn2 +0 +\d+s ago +- /);
  const { text } = await asked({ ...counts(1, 1), revision: 2 }, "hosts", "-o", "json");
  deepEqual((JSON.parse(text) as { hosts: { node: string; behind?: number }[] }).hosts.map((h) => h.behind), [
    1,
    undefined,
  ]);
  match((await asked(undefined)).text, /no agent answers on this host/);
  match((await asked(undefined, "pods")).text, /pods is nothing that top shows/);
});
