import { runOk } from "../../lib/process.ts";

/** Requests that an etcd has received since it started, by gRPC method: Range, Put, DeleteRange, Txn, Watch, … */
export type Requests = Map<string, number>;

/** Asks etcd itself (its /metrics), so that nobody counts his own requests. Streams count once, when they open. */
export async function etcdRequests(netns: string, endpoint: string): Promise<Requests> {
  const text = await runOk("nsenter", [`--net=/run/netns/${netns}`, "curl", "-fsS", `${endpoint}/metrics`]);
  const counts: Requests = new Map();
  const line =
    /^grpc_server_started_total\{grpc_method="(\w+)",grpc_service="etcdserverpb\.(?:KV|Lease|Watch)"[^}]*\} (\S+)/gm;
  for (const [, method, count] of text.matchAll(line)) counts.set(method!, Number(count));
  return counts;
}

/** What was asked between two looks, without what was not. */
export function between(before: Requests, after: Requests): Requests {
  return new Map([...after].map(([m, n]): [string, number] => [m, n - (before.get(m) ?? 0)]).filter(([, n]) => n > 0));
}

/** Requests a call, and of which methods: `1.0 (Txn 1.0)`. */
export function perCall(requests: Requests, calls: number): string {
  const total = [...requests.values()].reduce((a, b) => a + b, 0);
  const parts = [...requests].sort(([, a], [, b]) => b - a).map(([m, n]) => `${m} ${(n / calls).toFixed(2)}`);
  return `${(total / calls).toFixed(2)}${parts.length > 0 ? ` (${parts.join(", ")})` : ""}`;
}
