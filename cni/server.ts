import type { Clock } from "../lib/clock.ts";
import { claimSocket, removeSocket } from "../lib/http_server.ts";
import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { KubernetesClients } from "../datastore/kubernetes/client.ts";
import type { Lifecycle } from "../agent/endpoints/lifecycle.ts";
import { answer } from "./answer.ts";
import type { CniDeps } from "./call.ts";
import { ClusterCaches } from "./cluster_cache.ts";
import type { PluginRequest } from "./wire.ts";

/** Where the agent listens for CNI calls. */
export const socketPath = "/run/tortie/agent.sock";

/** What the server works with. */
export interface CniServerOptions {
  /** Default: /run/tortie/agent.sock. Its folder is made with mode 0700, the socket has 0600. */
  path?: string;
  node: string;
  lifecycle: Lifecycle;
  clock: Clock;
  log: Logger;
  /** What GET /v1/status answers besides: of policy in the kernel. */
  policy?: () => Json;
  /** What else is answered, by method and path: `GET /v1/drops`. */
  more?: ReadonlyMap<string, (request: Request) => Response | Promise<Response>>;
  /** Of the network configuration, when it is known before the first call. */
  kubeconfig?: string;
  /** Overrides of paths on this host; see CniDeps. */
  mtuFile?: string;
  nodeNameFile?: string;
}

/** How long calls under way may take when the server closes. */
const closeMs = 5_000;

/**
 * Serves CNI calls on the unix socket until it is disposed: POST /v1/cni, GET /v1/status, GET /v1/endpoints, and `more`.
 * `curl --unix-socket /run/tortie/agent.sock http://agent/v1/status` shows what the agent thinks of itself.
 * @throws Problem "exists" when another agent answers there; a socket that nobody listens on is replaced.
 */
export async function serveCni(options: CniServerOptions): Promise<AsyncDisposable> {
  const { path = socketPath, clock, log } = options;
  const kubernetes = new KubernetesClients({ clock });
  const caches = new ClusterCaches({ clock, log: log.child("kubernetes"), random: Math.random });
  const deps: CniDeps = { ...options, kubernetes, caches };
  if (options.kubeconfig) await followEarly(options.kubeconfig, deps);
  const told = new Set<string>();
  await claimSocket(path, "agent");
  const calls = new Set<Promise<unknown>>();
  const listening = Promise.withResolvers<void>();
  const server = Deno.serve({
    path,
    onListen: () => {
      Deno.chmodSync(path, 0o600);
      listening.resolve();
    },
    onError: (error) => {
      log.error("CNI request failed", { why: String(error) });
      return json(500, { error: String(error) });
    },
  }, (request) => {
    const done = route(request, deps, told, calls, options);
    calls.add(done);
    done.finally(() => calls.delete(done)).catch(() => {}); // Deno.serve's onError tells it
    return done;
  });
  await listening.promise;
  return {
    async [Symbol.asyncDispose]() {
      const closed = server.shutdown();
      await Promise.race([Promise.allSettled(calls), clock.sleep(closeMs)]);
      await Promise.race([closed, clock.sleep(closeMs)]);
      await caches[Symbol.asyncDispose]();
      kubernetes[Symbol.dispose]();
      await removeSocket(path);
    },
  };
}

/** Follows Kubernetes before the first call: an agent that starts while the API server goes away knows at least what it saw. */
async function followEarly(kubeconfig: string, { kubernetes, caches, node, log }: CniDeps): Promise<void> {
  try {
    caches.of(await kubernetes.for({ kubeconfig }, () => undefined), node);
  } catch (error) {
    if (!isProblem(error)) throw error;
    log.info("Kubernetes is followed from the first call on", { why: messageOf(error) });
  }
}

async function route(
  request: Request,
  deps: CniDeps,
  told: Set<string>,
  calls: ReadonlySet<unknown>,
  { policy, more = new Map() }: CniServerOptions,
): Promise<Response> {
  const { pathname } = new URL(request.url);
  const what = `${request.method} ${pathname}`;
  if (what === "POST /v1/cni") {
    const call = pluginRequest(await request.text());
    if (typeof call === "string") return json(400, { error: call });
    return json(200, { ...await answer(call, deps, told, request.signal) });
  }
  if (what === "GET /v1/status") return statusOf(deps, calls.size, policy);
  if (what === "GET /v1/endpoints") return json(200, deps.lifecycle.list() as unknown as Json);
  const other = more.get(what);
  if (other) return await other(request);
  const known = ["POST /v1/cni", "GET /v1/status", "GET /v1/endpoints", ...more.keys()];
  return json(404, { error: `${what} does not exist: ${known.join(", ")}` });
}

/** `calls` = other requests that are being served now. */
function statusOf({ lifecycle, node, caches }: CniDeps, calls: number, policy: (() => Json) | undefined): Response {
  const readiness = lifecycle.readiness(undefined);
  const pending = lifecycle.pending().map(({ attachment, because, time }) => ({ ...attachment, because, time }));
  const more: { [name: string]: Json } = policy ? { policy: policy() } : {};
  return json(readiness.ready ? 200 : 503, {
    node,
    pid: Deno.pid,
    revision: lifecycle.revision(),
    ...readiness,
    calls,
    pending,
    kubernetes: caches.states() as unknown as Json,
    ...more,
  });
}

/** The plugin's request; a sentence when it is none. */
function pluginRequest(text: string): PluginRequest | string {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return `not JSON: ${error.message}`;
    throw error;
  }
  const isText = (v: unknown) => typeof v === "string";
  const good = isObject(value) && (value.plugin === "cni" || value.plugin === "ipam") && isText(value.stdin) &&
    isText(value.netns) && isObject(value.env) && Object.values(value.env).every(isText);
  return good ? value as unknown as PluginRequest : "wanted {plugin: cni or ipam, env, netns, stdin}";
}

const json = (status: number, body: Json): Response =>
  new Response(writeJson(body) + "\n", { status, headers: { "content-type": "application/json" } });
