import assert from "node:assert/strict";
import { FakeClock, goTimestamp } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import { blockKey, handleKey } from "../../datastore/keys.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { parseCidr } from "../../lib/ip.ts";
import { viewOf } from "../../ipam/view.ts";
import { type CollectorParts, parseGoTimestamp, truthOf } from "./collector.ts";

const since = Date.UTC(2026, 10, 21);

/** A block of four whose first addresses have these handles, given at these times. */
function reader(given: [handle: string, atMs: number][]): CollectorParts["mirror"] {
  const cidr = parseCidr("10.0.0.0/30");
  const values = new Map<string, string>();
  const attributes = given.map(([handle_id, at]) => ({
    handle_id,
    secondary: { node: "n1", timestamp: goTimestamp(at) },
  }));
  const allocations = [0, 1, 2, 3].map((i) => (i < given.length ? i : null));
  values.set(
    blockKey(cidr),
    JSON.stringify({ cidr: "10.0.0.0/30", affinity: "host:n1", allocations, unallocated: [], attributes }),
  );
  for (const [handle] of given) values.set(handleKey(handle), JSON.stringify({ block: { "10.0.0.0/30": 1 } }));
  const kv = (key: string): KeyValue => ({ key, value: values.get(key)!, revision: 1n, created: 1n });
  return {
    revision: 1n,
    get: (key) => (values.has(key) ? kv(key) : undefined),
    list: (prefix) => [...values.keys()].filter((k) => k.startsWith(prefix)).sort().map(kv),
    state: () => ({ inSync: true, connected: true }),
  };
}

function validHandles(mirror: CollectorParts["mirror"], more: Partial<CollectorParts> = {}): string[] {
  const parts: CollectorParts = {
    ...{ node: "n1", mirror, clock: new FakeClock(), log: silentLog, recordsSinceMs: since },
    learn: () => {},
    allocator: { clean: () => Promise.reject(new Error("not asked for")) },
    endpoints: () => [],
    journal: { entries: () => [] },
    leases: { handles: () => new Set() },
    routedAddresses: () => new Set(),
    ...more,
  };
  return [...truthOf(parts, viewOf(mirror)).validHandles].sort();
}

const endpoint = (containerID: string): WorkloadEndpoint =>
  ({
    kind: "WorkloadEndpoint",
    metadata: { name: "e" },
    spec: { node: "n1", containerID },
  }) as unknown as WorkloadEndpoint;

Deno.test("an address from before the node's records is never judged, a later one without anything is", () => {
  assert.deepEqual(validHandles(reader([["net.old", since - 1000], ["net.new", since + 1000]])), ["net.old"]);
});

Deno.test("handles of endpoints, journal and leases are valid", () => {
  const mirror = reader([["net.a", since + 1], ["net.b", since + 1], ["my.net.c", since + 1], ["net.gone", since + 1]]);
  const attachment = { network: "net", containerId: "b", interfaceName: "eth0" };
  const valid = validHandles(mirror, {
    endpoints: () => [endpoint("c")],
    journal: { entries: () => [{ attachment, because: "delete", time: "" }] },
    leases: { handles: () => new Set(["net.a"]) },
  });
  assert.deepEqual(valid, ["my.net.c", "net.a", "net.b"]);
});

Deno.test("parseGoTimestamp() reads what Go writes, with any number of decimals", () => {
  assert.equal(parseGoTimestamp("2026-11-21 08:31:42.556064344 +0000 UTC"), Date.UTC(2026, 10, 21, 8, 31, 42, 556));
  assert.equal(parseGoTimestamp("2026-11-21 08:31:42 +0000 UTC"), Date.UTC(2026, 10, 21, 8, 31, 42));
  assert.equal(parseGoTimestamp("yesterday"), undefined);
});
