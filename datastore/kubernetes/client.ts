import { type Clock, systemClock, withDeadline } from "../../lib/clock.ts";
import { isObject, type Json, parseJson, writeJson } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";
import { type KubernetesOptions, kubernetesOptions, type KubernetesOverrides, type Pem } from "./options.ts";
import type { Pod, PodMetadata } from "./pod.ts";

/** What of a Namespace or Node we read. */
export interface ClusterObject {
  metadata: PodMetadata;
  spec?: { podCIDR?: string; podCIDRs?: string[] };
  status?: { addresses?: { type: string; address: string }[] };
}

/** What of a ConfigMap we read. */
export interface ConfigMap {
  data?: Record<string, string>;
}

/** What is written: a new object, a whole one, or a merge patch (RFC 7396) of one. */
export interface Send {
  method: "POST" | "PUT" | "PATCH";
  object: Record<string, unknown>;
}

/** What a client needs besides its options. */
export interface KubernetesDeps {
  clock?: Clock;
  /** Of one request. Default 5,000. */
  deadlineMs?: number;
}

/**
 * Asks a Kubernetes API server for single objects, over one kept connection. Token and certificates are read anew when
 * their files change, so a rotated token costs no failed call.
 */
export class KubernetesClient implements Disposable {
  readonly #files = new FileTexts();
  #http: { of: string; client: Deno.HttpClient } | undefined;
  /** The pool before the last change of certificates; calls on it may still be under way. */
  #older: Deno.HttpClient | undefined;

  /** @param options reads the options, at every call: a kubeconfig is rewritten when its token is renewed. */
  constructor(private readonly options: () => KubernetesOptions, private readonly deps: KubernetesDeps = {}) {}

  /** A client of its own connection with the same options, for one that follows a collection. */
  another(): KubernetesClient {
    return new KubernetesClient(this.options, this.deps);
  }

  /** A pod. @throws Problem "not-found", "unauthorized", "unavailable" (no answer in time; the server's own failure). */
  pod(namespace: string, name: string): Promise<Pod> {
    return this.#ask(`/api/v1/namespaces/${segment(namespace)}/pods/${segment(name)}`, `pod ${namespace}/${name}`);
  }

  /** A namespace. @throws as pod(). */
  namespace(name: string): Promise<ClusterObject> {
    return this.#ask(`/api/v1/namespaces/${segment(name)}`, `namespace ${name}`);
  }

  /** A node. @throws as pod(). */
  node(name: string): Promise<ClusterObject> {
    return this.#ask(`/api/v1/nodes/${segment(name)}`, `node ${name}`);
  }

  /** A ConfigMap. @throws as pod(). */
  configMap(namespace: string, name: string): Promise<ConfigMap> {
    return this.#ask(
      `/api/v1/namespaces/${segment(namespace)}/configmaps/${segment(name)}`,
      `ConfigMap ${namespace}/${name}`,
    );
  }

  /**
   * A new token of a service account. @param seconds how long it shall be good for; the server may make it shorter.
   * @throws as pod(). Source: TokenRequest of authentication.k8s.io/v1.
   */
  async requestToken(namespace: string, account: string, seconds: number): Promise<string> {
    const what = `a token of service account ${namespace}/${account}`;
    const kind = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest" };
    const object = { ...kind, spec: { expirationSeconds: seconds } };
    const path = `/api/v1/namespaces/${segment(namespace)}/serviceaccounts/${segment(account)}/token`;
    const answer = await this.#ask<{ status?: { token?: string } }>(path, what, { method: "POST", object });
    if (!answer.status?.token) throw unavailable(this.options().server, `the answer about ${what} has none`);
    return answer.status.token;
  }

  /** The server and the authority's certificate that this client uses. @throws as open(). */
  access(): { server: string; ca?: string } {
    const { server, ca } = this.options();
    return { server, ...(ca ? { ca: this.#files.text(ca) } : {}) };
  }

  /** True when the server answers at all. @throws Problem "unauthorized", "unavailable". */
  async ping(): Promise<void> {
    await this.#ask("/version", "version");
  }

  /**
   * The answer as it comes, whatever its status says: for lists and watches, and for writes when there is something to
   * `send`. The deadline is the caller's.
   * @throws Problem "unavailable" when no answer comes; "bad-input" when a file that the options name is not there.
   */
  async open(path: string, signal: AbortSignal, send?: Send): Promise<Response> {
    const options = this.options();
    try {
      return await this.#fetch(options, path, signal, send);
    } catch (error) {
      throw error instanceof Problem ? error : unavailable(options.server, messageWithCause(error));
    }
  }

  /** The next call makes a new connection: the kept one says nothing any more, and nobody tells us that it is dead. */
  reconnect(): void {
    this.#older?.close();
    this.#older = this.#http?.client;
    this.#http = undefined;
  }

  [Symbol.dispose](): void {
    this.#older?.close();
    this.#http?.client.close();
    this.#older = this.#http = undefined;
  }

  async #ask<T>(path: string, what: string, send?: Send): Promise<T> {
    const options = this.options();
    const deadlineMs = this.deps.deadlineMs ?? 5_000;
    const late = () => unavailable(options.server, `no answer within ${deadlineMs} ms`);
    const work = async (signal: AbortSignal) => {
      const answer = await this.#fetch(options, path, signal, send);
      return { status: answer.status, text: await answer.text() };
    };
    const { status, text } = await withDeadline(deadlineMs, work, late, this.deps.clock ?? systemClock)
      .catch((error) => {
        throw error instanceof Problem ? error : unavailable(options.server, messageWithCause(error));
      });
    if (status !== 200 && status !== 201) throw refusal(status, text, what, options.server);
    return objectOf(text, what, options.server) as T;
  }

  async #fetch(options: KubernetesOptions, path: string, signal: AbortSignal, send?: Send): Promise<Response> {
    const [ca, cert, key] = [options.ca, options.cert, options.key].map((pem) => pem && this.#files.text(pem));
    const token = options.token && this.#files.text(options.token).trim();
    const headers: Record<string, string> = { accept: "application/json" };
    if (token) headers.authorization = `Bearer ${token}`;
    if (send) headers["content-type"] = send.method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const what = send && { method: send.method, body: writeJson(send.object) };
    return await fetch(options.server + path, { client: this.#client(ca, cert, key), headers, signal, ...what });
  }

  /** The connection pool for these certificates; a change of them makes a new one. */
  #client(ca: string | undefined, cert: string | undefined, key: string | undefined): Deno.HttpClient {
    const of = JSON.stringify([ca, cert, key]);
    if (this.#http?.of === of) return this.#http.client;
    this.#older?.close();
    this.#older = this.#http?.client;
    const pair = cert && key ? { cert, key } : {};
    const client = Deno.createHttpClient({ caCerts: ca ? [ca] : undefined, ...pair });
    this.#http = { of, client };
    return client;
  }
}

/** Clients by where they point to, so that calls with the same configuration share a connection. */
export class KubernetesClients implements Disposable {
  readonly #clients = new Map<string, KubernetesClient>();
  readonly #files = new FileTexts();
  #parseYaml: ((text: string) => unknown) | undefined;

  constructor(private readonly deps: KubernetesDeps = {}) {}

  /**
   * The client for a CNI call. @param env environment of the call.
   * @throws Problem "bad-input", "unsupported": see kubernetesOptions().
   */
  async for(overrides: KubernetesOverrides, env: (name: string) => string | undefined): Promise<KubernetesClient> {
    const parseYaml = this.#parseYaml ??= (await import("../../lib/yaml.ts")).parse as (text: string) => unknown;
    const readFile = (path: string) => this.#files.ifThere(path);
    const read = () => kubernetesOptions(overrides, { env, readFile, parseYaml });
    read();
    const given = Object.entries(overrides).filter(([, value]) => value);
    const inCluster = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].map((name) => env(name) ?? "");
    const id = JSON.stringify([given.sort(), overrides.kubeconfig || overrides.apiRoot ? [] : inCluster]);
    const known = this.#clients.get(id);
    if (known) return known;
    const client = new KubernetesClient(read, this.deps);
    this.#clients.set(id, client);
    return client;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client[Symbol.dispose]();
    this.#clients.clear();
  }
}

/** Texts of small files; a file is read again only when its modification time, size or inode changed. */
class FileTexts {
  readonly #known = new Map<string, { stamp: string; text: string }>();

  /** @throws Problem "bad-input" when the file does not exist. */
  text(pem: Pem): string {
    if ("text" in pem) return pem.text;
    const text = this.ifThere(pem.file);
    if (text === undefined) {
      throw new Problem({ code: "bad-input", what: "file for the Kubernetes API does not exist", where: pem.file });
    }
    return text;
  }

  ifThere(path: string): string | undefined {
    try {
      const { mtime, size, ino } = Deno.statSync(path);
      const stamp = `${mtime?.getTime()} ${size} ${ino}`;
      const known = this.#known.get(path);
      if (known?.stamp === stamp) return known.text;
      const text = Deno.readTextFileSync(path);
      this.#known.set(path, { stamp, text });
      return text;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }
}

/** Names in paths: Kubernetes' own rules leave nothing to escape, foreign text must not reach another path. */
const segment = (name: string): string => encodeURIComponent(name);

function objectOf(text: string, what: string, server: string): Record<string, Json> {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw unavailable(server, `the answer about ${what} is not JSON`);
  }
  if (!isObject(value)) throw unavailable(server, `the answer about ${what} is not an object`);
  return value;
}

function refusal(status: number, text: string, what: string, server: string): Problem {
  const said = /"message":\s*"([^"]*)"/.exec(text)?.[1] ?? `HTTP ${status}`;
  if (status === 404) {
    return new Problem({ code: "not-found", what: `${what} does not exist in Kubernetes`, where: server });
  }
  if (status === 401 || status === 403) {
    return new Problem({
      code: "unauthorized",
      what: `Kubernetes does not let us have ${what}: ${said}`,
      where: server,
      todo: "Look at the token in the kubeconfig and at the role of its account",
    });
  }
  return unavailable(server, `${said} (reading ${what})`);
}

const unavailable = (server: string, why: string): Problem =>
  new Problem({ code: "unavailable", what: `the Kubernetes API does not answer: ${why}`, where: server });

/** fetch() says "error sending request" and keeps the reason in its cause. */
function messageWithCause(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
