import assert from "node:assert/strict";
import { systemClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { type Json, parseJson, writeJson } from "../lib/json64.ts";
import { silentLog } from "../lib/log.ts";
import { isObject } from "../lib/json64.ts";
import type { AgentSocket } from "../agent/agent_socket.ts";
import { historyKey, readHistory } from "../datastore/history.ts";
import { resourceKey } from "../datastore/keys.ts";
import { kinds } from "../datastore/kinds/index.ts";
import { MemoryStore } from "../datastore/memory.ts";
import type { Bindings } from "./access.ts";
import { type Answer, buildApp } from "./app.ts";
import { openApi } from "./openapi.ts";

const base = "/apis/projectcalico.org/v3";
const socket: Bindings = { door: { is: "socket" } };
const port: Bindings = { door: { is: "port", token: "a-token-of-our-own" }, from: "192.0.2.7" };

/** An agent that has dropped one packet. */
const agent: AgentSocket = {
  get: () => Promise.resolve(undefined),
  async *lines() {
    yield '{"is":"watching","node":"n1"}';
    yield "";
    yield writeJson({
      ...{
        is: "drop",
        time: "2026-01-02T03:04:05.678Z",
        node: "n1",
        direction: "ingress",
        decider: { by: "tier", tier: "default" },
      },
      ...{ hook: "FORWARD", in: "eth0", out: "cali1", source: "10.1.0.1", destination: "10.1.0.2", protocol: 6 },
      ...{ sourcePort: 1, destinationPort: 80, flags: ["SYN"], packets: 1 },
    });
    yield '{"is":"left out","packets":7}';
    await Promise.resolve();
  },
};

interface World extends AsyncDisposable {
  store: MemoryStore;
  answer: Answer;
  /** Asks by the socket; `body` is sent as JSON. */
  ask(what: string, body?: unknown): Promise<{ status: number; body: Record<string, Json> }>;
}

function world(): World {
  const store = new MemoryStore(), clock = systemClock, end = new AbortController();
  const answer = buildApp({
    ...{ store, clock, random: () => 0, log: silentLog, signal: end.signal, health: new Health(clock), host: "n1" },
    metrics: () => Promise.resolve("felix_x 1\n"),
    sessions: () => Promise.resolve(undefined),
    agent,
  });
  return {
    store,
    answer,
    async ask(what, body) {
      const [method, path] = what.split(" ") as [string, string];
      const text = body === undefined || typeof body === "string" ? body as string | undefined : writeJson(body);
      const response = await answer(new Request(`http://t${path}`, { method, body: text }), socket);
      return { status: response.status, body: parseJson(await response.text()) as Record<string, Json> };
    },
    async [Symbol.asyncDispose]() {
      end.abort();
      await store[Symbol.asyncDispose]();
    },
  };
}

const withDefaultTier = (w: World) =>
  w.ask(`POST ${base}/tiers`, { metadata: { name: "default" }, spec: { order: 1_000_000 } });

const pool = (name: string, spec: object = {}) => ({ metadata: { name }, spec: { cidr: "10.1.0.0/16", ...spec } });

Deno.test("an object is created, read, replaced, patched and deleted, each time as it is stored", async () => {
  await using w = world();
  const made = await w.ask(`POST ${base}/ippools`, pool("a"));
  assert.equal(made.status, 201);
  assert.ok(isObject(made.body.metadata) && made.body.metadata.resourceVersion);
  assert.deepEqual((await w.ask(`GET ${base}/ippools/a`)).body.metadata, made.body.metadata);
  const replaced = await w.ask(`PUT ${base}/ippools/a`, {
    ...made.body,
    spec: { ...made.body.spec as object, disabled: true },
  });
  assert.equal(replaced.status, 200);
  const patched = await w.ask(`PATCH ${base}/ippools/a`, { spec: { natOutgoing: true, disabled: null } });
  assert.deepEqual([patched.status, (patched.body.spec as { natOutgoing: boolean }).natOutgoing], [200, true]);
  assert.equal("disabled" in (patched.body.spec as object), false);
  const list = await w.ask(`GET ${base}/ippools`);
  assert.equal((list.body.items as Json[]).length, 1);
  assert.equal((await w.ask(`DELETE ${base}/ippools/a`)).status, 200);
  assert.equal((await w.ask(`GET ${base}/ippools/a`)).status, 404);
});

Deno.test("an older resourceVersion is a conflict, and nothing is written", async () => {
  await using w = world();
  const { body } = await w.ask(`POST ${base}/ippools`, pool("a"));
  await w.ask(`PATCH ${base}/ippools/a`, { spec: { natOutgoing: true } });
  const late = await w.ask(`PUT ${base}/ippools/a`, body);
  assert.deepEqual([late.status, late.body.reason], [409, "Conflict"]);
  const version = { metadata: { resourceVersion: "1" } };
  assert.equal((await w.ask(`PATCH ${base}/ippools/a`, version)).status, 409);
  assert.equal(
    (await w.ask(`DELETE ${base}/ippools/a?resourceVersion=1`)).status,
    200,
    "pools are released first, then deleted",
  );
  await w.ask(`POST ${base}/globalnetworksets`, { metadata: { name: "s" } });
  assert.equal((await w.ask(`DELETE ${base}/globalnetworksets/s?resourceVersion=1`)).status, 409);
});

Deno.test("what is wrong is named, with its place and what was probably meant", async () => {
  await using w = world();
  await withDefaultTier(w);
  const cases: [what: string, body: unknown, status: number, said: RegExp][] = [
    [`GET ${base}/ipools`, undefined, 404, /Did you mean ippools/],
    [`GET ${base}/namespaces/shop/ippools`, undefined, 404, /IPPool is in no namespace/],
    [`POST ${base}/ippools`, "{", 400, /not JSON/],
    [`POST ${base}/ippools`, "[]", 400, /not a JSON object/],
    [`POST ${base}/ippools`, { ...pool("a"), kind: "Tier" }, 400, /the body is a Tier.*IPPool/],
    [`POST ${base}/ippools`, pool("a", { natOutgoin: true }), 400, /natOutgoin/],
    [`POST ${base}/ippools`, pool("a", { cidr: "10.1.0.0/40" }), 422, /cidr|CIDR/],
    [`POST ${base}/ippools`, pool("a", { natOutgoing: 3 }), 400, /natOutgoing.*cannot be read as bool/],
    [`PUT ${base}/ippools/b`, pool("a"), 400, /metadata.name is "a", the path says "b"/],
    [`GET ${base}/ippools?labelSelector=a%20%3D%3D`, undefined, 400, /invalid selector/],
    [`GET ${base}/ippools?watch=1&resourceVersion=x`, undefined, 400, /is not a revision/],
    [`POST ${base}/clusterinformations`, { metadata: { name: "default" } }, 405, /ClusterInformation/],
    [`POST ${base}/tiers`, { metadata: { name: "default" }, spec: { order: 5 } }, 422, /default tier order/],
    [`POST ${base}/networkpolicies`, { metadata: { name: "a" }, spec: {} }, 422, /namespace is not specified/],
    [`POST ${base}/ippools`, "x".repeat(3 << 20), 400, /longer than 2 MiB/],
    ["GET /nowhere", undefined, 404, /does not exist/],
  ];
  for (const [what, body, status, said] of cases) {
    const answer = await w.ask(what, body);
    assert.equal(answer.status, status, `${what}: ${writeJson(answer.body)}`);
    assert.match(String(answer.body.message), said);
  }
  const unknown = await w.ask(`POST ${base}/ippools`, pool("a", { natOutgoin: true }));
  assert.match(writeJson(unknown.body.details), /did you mean \\"natOutgoing\\"/);
  assert.equal(
    (await w.ask(`POST ${base}/ippools?fieldValidation=Ignore`, pool("a", { natOutgoin: true }))).status,
    201,
  );
});

Deno.test("a patch keeps members that nobody knows, and integers of 64 bits", async () => {
  await using w = world();
  await w.ask(`POST ${base}/ippools`, pool("a"));
  const key = resourceKey("IPPool", "a");
  const stored = await w.store.get(key);
  const value = stored!.value.replace('"spec":{', '"spec":{"future":9007199254740993,');
  await w.store.txn({ compare: [], write: [{ put: key, value }] });
  const patched = await w.ask(`PATCH ${base}/ippools/a`, { metadata: { labels: { a: "b" } } });
  assert.equal(patched.status, 200, writeJson(patched.body));
  assert.match((await w.store.get(key))!.value, /"future":9007199254740993/);
});

Deno.test("who changed an object is in its history", async () => {
  await using w = world();
  const key = resourceKey("GlobalNetworkSet", "s");
  await w.answer(
    new Request(`http://t${base}/globalnetworksets`, {
      method: "POST",
      body: writeJson({ metadata: { name: "s" } }),
      headers: { authorization: "Bearer a-token-of-our-own" },
    }),
    port,
  );
  const { states } = await readHistory(w.store, key);
  assert.deepEqual(states[0]?.by, {
    user: "api token",
    host: "n1",
    from: "192.0.2.7",
    command: "POST globalnetworksets",
  });
  assert.ok(await w.store.get(historyKey(key)));
});

Deno.test("a port lets in who has the token; Basic may read, and only probes need none", async () => {
  await using w = world();
  const basic = `Basic ${btoa("me:a-token-of-our-own")}`;
  const rows: [what: string, authorization: string | undefined, status: number][] = [
    ["GET /", undefined, 401],
    [`GET ${base}/ippools`, "Bearer a-token-of-our-owN", 401],
    [`GET ${base}/ippools`, "Bearer a-token-of-our-own", 200],
    [`GET ${base}/ippools`, basic, 200],
    ["GET /metrics", undefined, 401],
    ["GET /", basic, 200],
    [`DELETE ${base}/ippools/a`, basic, 401],
    [`DELETE ${base}/ippools/a`, "Bearer a-token-of-our-own", 404],
    ["GET /", "Basic %%%", 401],
    ["GET /healthz", undefined, 200],
    ["POST /healthz", undefined, 401],
  ];
  for (const [what, authorization, status] of rows) {
    const [method, path] = what.split(" ") as [string, string];
    const headers = authorization ? { authorization } : undefined;
    const response = await w.answer(new Request(`http://t${path}`, { method, headers }), port);
    await response.body?.cancel();
    assert.equal(response.status, status, `${what} ${authorization}`);
  }
});

/** Reads events until `count` with data have come. */
async function events(response: Response, count: number): Promise<{ type: string; name: string }[]> {
  const found: { type: string; name: string }[] = [];
  let text = "";
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  while (found.length < count) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const data = /^data: (.*)$/m.exec(text.slice(0, end))?.[1];
      if (data === undefined) continue;
      const { type, object } = JSON.parse(data);
      found.push({ type, name: object.metadata?.name ?? String(object.code) });
    }
  }
  await reader.cancel();
  return found;
}

Deno.test("a watch tells what is there, every change, and what leaves the selector; from a revision it tells what came after", async () => {
  await using w = world();
  const set = (name: string, team: string) => ({ metadata: { name, labels: { team } } });
  await w.ask(`POST ${base}/globalnetworksets`, set("a", "x"));
  await w.ask(`POST ${base}/globalnetworksets`, set("other", "y"));
  const { metadata } = (await w.ask(`GET ${base}/globalnetworksets`)).body as { metadata: { resourceVersion: string } };
  const query = "watch=true&labelSelector=team%3D%3D'x'";
  const follow = async (more: string) =>
    await w.answer(new Request(`http://t${base}/globalnetworksets?${query}${more}`), socket);
  const [whole, after] = [await follow(""), await follow(`&resourceVersion=${metadata.resourceVersion}`)];
  await w.ask(`POST ${base}/globalnetworksets`, set("b", "x"));
  await w.ask(`PATCH ${base}/globalnetworksets/a`, { metadata: { labels: { team: "y" } } });
  await w.ask(`DELETE ${base}/globalnetworksets/b`);
  const changes = [{ type: "ADDED", name: "b" }, { type: "DELETED", name: "a" }, { type: "DELETED", name: "b" }];
  assert.deepEqual(await events(whole, 4), [{ type: "ADDED", name: "a" }, ...changes]);
  assert.deepEqual(await events(after, 3), changes);
});

Deno.test("a watch from a revision that is forgotten says 410, so that the client lists again", async () => {
  await using w = world();
  for (const name of ["a", "b", "c"]) await w.ask(`POST ${base}/globalnetworksets`, { metadata: { name } });
  w.store.compact(4n);
  const response = await w.answer(new Request(`http://t${base}/globalnetworksets?watch=1&resourceVersion=1`), socket);
  assert.deepEqual(await events(response, 1), [{ type: "ERROR", name: "410" }]);
});

Deno.test("pages escape what objects say", async () => {
  await using w = world();
  await withDefaultTier(w);
  await w.ask(`POST ${base}/globalnetworkpolicies`, {
    metadata: { name: "p" },
    spec: { selector: "a == '<script>alert(1)</script>'" },
  });
  const response = await w.answer(new Request("http://t/policies"), socket);
  const text = await response.text();
  assert.match(text, /&lt;script&gt;/);
  assert.doesNotMatch(text, /<script>/);
  assert.match(response.headers.get("content-security-policy") ?? "", /default-src 'self'/);
});

Deno.test("every page comes, with an example of every kind stored", async () => {
  await using w = world();
  for (const kind of kinds.filter((k) => !k.internal)) {
    const { name, namespace } = kind.example.metadata;
    await w.store.txn({
      compare: [],
      write: [{ put: resourceKey(kind.kind, name, namespace), value: writeJson(kind.example) }],
    });
  }
  for (const path of ["/", "/endpoints", "/policies", "/reach", "/ipam", "/bgp", "/drops", "/style.css", "/drops.js"]) {
    const response = await w.answer(new Request(`http://t${path}`), socket);
    assert.equal(response.status, 200, path);
    assert.ok((await response.text()).length > 200);
  }
});

Deno.test("drops come as events, in the words of ctl watch drops, and the end is told", async () => {
  await using w = world();
  const response = await w.answer(new Request("http://t/drops/events"), socket);
  const text = await response.text();
  assert.match(text, /event: state\ndata: "watching what n1 drops"/);
  assert.match(
    text,
    /event: drop\ndata: "03:04:05.678 10\.1\.0\.1 -> 10\.1\.0\.2 TCP 80 SYN: DENIED on n1.*end of tier default/,
  );
  assert.match(text, /event: drop\ndata: "7 more packets/);
  assert.match(text, /event: state\ndata: "the agent ended it"/);
});

Deno.test("the OpenAPI document says of every kind what its example looks like", () => {
  const { schemas } = (openApi() as unknown as { components: { schemas: Record<string, Schema> } }).components;
  for (const { kind, example, internal } of kinds) {
    if (!internal) assert.deepEqual(breaches(schemas[kind]!, example, kind), []);
  }
  const wrong = { ...pool("a", { blockSize: 200, ipipMode: "Sometimes" }), apiVersion: "v1", kind: "IPPool" };
  assert.equal(breaches(schemas.IPPool!, wrong, "").length, 3);
});

interface Schema {
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  items?: Schema;
  minimum?: number;
  maximum?: number;
}

/** The part of JSON Schema that the document uses. */
function breaches(schema: Schema, value: unknown, at: string): string[] {
  if (value === undefined) return [];
  if (schema.anyOf) {
    return schema.anyOf.some((s) => breaches(s, value, at).length === 0) ? [] : [`${at}: none of anyOf`];
  }
  const found: string[] = [];
  const is = Array.isArray(value)
    ? "array"
    : value === null
    ? "null"
    : Number.isInteger(value)
    ? "integer"
    : typeof value;
  const types = [schema.type ?? is].flat();
  if (!types.includes(is) && !(is === "integer" && types.includes("number"))) found.push(`${at}: ${is}, not ${types}`);
  if (schema.const !== undefined && value !== schema.const) found.push(`${at}: not ${schema.const}`);
  if (schema.enum && !schema.enum.includes(value)) found.push(`${at}: not one of ${schema.enum}`);
  if (typeof value === "number" && (value > (schema.maximum ?? Infinity) || value < (schema.minimum ?? -Infinity))) {
    found.push(`${at}: out of range`);
  }
  if (Array.isArray(value)) found.push(...value.flatMap((v, i) => breaches(schema.items ?? {}, v, `${at}[${i}]`)));
  else if (isObject(value)) {
    for (const name of schema.required ?? []) if (!(name in value)) found.push(`${at}.${name}: absent`);
    for (const [name, member] of Object.entries(value)) {
      found.push(...breaches(schema.properties?.[name] ?? schema.additionalProperties ?? {}, member, `${at}.${name}`));
    }
  }
  return found;
}
