import { type Json, parseJson } from "../lib/json64.ts";
import { maxTxnOps } from "./_txn_limits.ts";
import type { StoreOptions } from "./options.ts";
import type { CallOptions, KeyValue, Lease, Range, Snapshot, Store, Txn, TxnResult, WatchBatch } from "./store.ts";

/** What the store needs beside its options. */
export interface GatewayDeps {
  /** The whole client, which is slow to load: for writes and watches, and whenever the gateway is not to be had. */
  open: () => Promise<Store>;
  env: (name: string) => string | undefined;
}

/** Longest wait for an answer of the gateway before the whole client asks again. */
const patienceMs = 2_000;

/**
 * A Store for commands that mostly read and end at once. Reads go to etcd's JSON gateway (`/v3/kv/…`, on at etcd unless
 * `--enable-grpc-gateway=false`), which needs no more than a fetch: loading the gRPC client takes longer than the rest of a
 * `get`. At the first thing that is not as expected the whole client takes over and says what is
 * wrong; only reads are ever asked twice. Users and proxies between are left to the whole client.
 */
export function openThroughGateway(options: StoreOptions, deps: GatewayDeps): Store {
  return new GatewayStore(options, deps);
}

class GatewayStore implements Store {
  readonly #deps: GatewayDeps;
  #endpoint: string | undefined;
  #client: Deno.HttpClient | undefined;
  #whole: Promise<Store> | undefined;
  #loaded: Store | undefined;
  readonly #asked = { range: 0, txn: 0 };

  constructor(options: StoreOptions, deps: GatewayDeps) {
    this.#deps = deps;
    this.#endpoint = gatewayOf(options, deps.env);
    if (this.#endpoint?.startsWith("https:")) this.#client = httpClientOf(options);
    if (this.#endpoint?.startsWith("https:") && !this.#client) this.#endpoint = undefined;
  }

  get requests(): Readonly<Record<string, number>> {
    const whole = this.#loaded?.requests ?? {};
    const { range, txn } = this.#asked;
    return { ...whole, range: range + (whole.range ?? 0), txn: txn + (whole.txn ?? 0) };
  }

  async get(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    const answer = await this.#ask("range", rangeRequest(key), options);
    return answer ? valuesIn(answer)[0] : (await this.#store()).get(key, options);
  }

  async read(what: (string | Range)[], options?: CallOptions): Promise<Snapshot> {
    const success = what.map((w) => ({ request_range: rangeRequest(w) }));
    const answer = what.length > maxTxnOps ? undefined : await this.#ask("txn", { success }, options);
    if (!answer) return (await this.#store()).read(what, options);
    const found = listAt(answer.responses).flatMap((r) => valuesIn(objectAt(objectAt(r).response_range)));
    return { revision: revisionOf(answer), values: new Map(found.map((kv) => [kv.key, kv])) };
  }

  async list(
    range: Range,
    page: (kvs: KeyValue[]) => void,
    options: CallOptions & { at?: bigint; pageSize?: number } = {},
  ): Promise<bigint> {
    let { at } = options, { start } = range;
    for (;;) {
      const request = rangeRequest({ start, end: range.end }, options.pageSize ?? 500, at);
      const answer = await this.#ask("range", request, options);
      if (!answer) return (await this.#store()).list({ ...range, start }, page, { ...options, at });
      at ??= revisionOf(answer);
      const kvs = valuesIn(answer);
      page(kvs);
      if (answer.more !== true || kvs.length === 0) return at;
      start = `${kvs.at(-1)!.key}\0`;
    }
  }

  async txn(txn: Txn, options?: CallOptions): Promise<TxnResult> {
    return await (await this.#store()).txn(txn, options);
  }

  async *watch(range: Range, from: bigint, options: { signal: AbortSignal }): AsyncGenerator<WatchBatch> {
    yield* (await this.#store()).watch(range, from, options);
  }

  async lease(ttlS: number, options?: CallOptions & { unattended?: boolean }): Promise<Lease> {
    return await (await this.#store()).lease(ttlS, options);
  }

  async status(options?: CallOptions): Promise<{ clusterId: string; revision: bigint; version: string }> {
    return await (await this.#store()).status(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.close();
    await (await this.#whole)?.[Symbol.asyncDispose]();
  }

  #store(): Promise<Store> {
    return this.#whole ??= this.#deps.open().then((store) => this.#loaded = store);
  }

  /** The gateway's answer; undefined when the whole client has to ask, now and from now on. */
  async #ask(
    method: "range" | "txn",
    request: unknown,
    options: CallOptions = {},
  ): Promise<Record<string, Json> | undefined> {
    if (!this.#endpoint) return undefined;
    this.#asked[method]++;
    const patience = AbortSignal.timeout(Math.min(options.deadlineMs ?? patienceMs, patienceMs));
    try {
      const response = await fetch(`${this.#endpoint}/v3/kv/${method}`, {
        method: "POST",
        body: JSON.stringify(request),
        redirect: "error",
        signal: options.signal ? AbortSignal.any([patience, options.signal]) : patience,
        ...(this.#client && { client: this.#client }),
      });
      const text = await response.text();
      const answer = response.ok ? objectAt(parseJson(text)) : undefined;
      if (answer && revisionOf(answer) > 0n) return answer;
      // A request that etcd refuses, such as a compacted revision, says nothing against the gateway.
      if (response.status === 400) return undefined;
    } catch (error) {
      // Whatever it is, the whole client meets it too and names it.
      if (!(error instanceof Error)) throw error;
    }
    this.#endpoint = undefined;
    return undefined;
  }
}

/** The first endpoint, when a plain fetch can ask it. A proxy that the environment names is not for the datastore. */
function gatewayOf({ endpoints, username }: StoreOptions, env: GatewayDeps["env"]): string | undefined {
  const hasProxy = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].some((name) => env(name) || env(name.toLowerCase()));
  return hasProxy || username
    ? undefined
    : endpoints.find((endpoint) => /^https?:/.test(endpoint))?.replace(/\/+$/, "");
}

/** What fetch needs for the certificates of `o`. Undefined when one cannot be read or used: the whole client says why. */
export function httpClientOf(o: StoreOptions): Deno.HttpClient | undefined {
  const pem = (text: string | undefined, file: string | undefined) => text ?? (file && Deno.readTextFileSync(file));
  try {
    const [ca, cert, key] = [pem(o.caPem, o.caFile), pem(o.certPem, o.certFile), pem(o.keyPem, o.keyFile)];
    return Deno.createHttpClient({ ...(ca && { caCerts: [ca] }), ...(cert && key && { cert, key }) });
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

function rangeRequest(what: string | Range, limit?: number, at?: bigint): Record<string, unknown> {
  const more = { ...(limit && { limit: String(limit) }), ...(at !== undefined && { revision: String(at) }) };
  if (typeof what === "string") return { key: base64(what), ...more };
  return { key: base64(what.start), range_end: base64(what.end), ...more };
}

const base64 = (text: string): string => new TextEncoder().encode(text).toBase64();
const textOf = (value: Json | undefined): string =>
  new TextDecoder().decode(Uint8Array.fromBase64(typeof value === "string" ? value : ""));

/** Values of a range's answer. The gateway leaves out what is empty or 0. */
function valuesIn(answer: Record<string, Json>): KeyValue[] {
  return listAt(answer.kvs).map(objectAt).map((kv) => ({
    key: textOf(kv.key),
    value: textOf(kv.value),
    revision: BigInt(String(kv.mod_revision ?? 0)),
    created: BigInt(String(kv.create_revision ?? 0)),
  }));
}

const revisionOf = (answer: Record<string, Json>): bigint => BigInt(String(objectAt(answer.header).revision ?? 0));
const listAt = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);
const objectAt = (value: Json | undefined): Record<string, Json> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
