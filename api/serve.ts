import { messageOf } from "../lib/problem.ts";
import { claimSocket, closeServer, removeSocket } from "../lib/http_server.ts";
import type { Bindings } from "./access.ts";
import type { Answer } from "./app.ts";
import { json } from "./objects.ts";
import type { ApiParts } from "./parts.ts";
import { statusOfError } from "./problems.ts";
import type { ApiSettings } from "./settings.ts";
import { readToken } from "./token.ts";

/** An API that listens. */
export interface RunningApi extends AsyncDisposable {
  /** The port, when it listens on one. */
  readonly port?: number;
}

/**
 * Serves the API on its socket, and on a port when the settings say one. What answers is loaded when the first request comes:
 * most hosts never see one.
 * @throws Problem: another process answers at the socket; a token or certificate cannot be used.
 */
export async function serveApi(parts: ApiParts, settings: ApiSettings): Promise<RunningApi> {
  await using cleanup = new AsyncDisposableStack();
  let answer: Promise<Answer> | undefined;
  const handle = async (request: Request, from: () => Promise<Bindings>): Promise<Response> => {
    try {
      answer ??= import("./app.ts").then(({ buildApp }) => buildApp(parts));
      return await (await answer)(request, await from());
    } catch (error) {
      parts.log.error("request failed", { why: messageOf(error) });
      return json({ ...statusOfError(error), reason: "InternalError", code: 500 }, 500);
    }
  };
  cleanup.use(await serveSocket(settings.socket, (request) => handle(request, () => Promise.resolve(bySocket)), parts));
  const port = settings.port && cleanup.use(await servePort(settings.port, handle, parts));
  const kept = cleanup.move();
  return { port: port?.port, [Symbol.asyncDispose]: () => kept[Symbol.asyncDispose]() };
}

const bySocket: Bindings = { door: { is: "socket" } };

type Handle = (request: Request) => Promise<Response>;

async function serveSocket(path: string, handle: Handle, { clock, log }: ApiParts): Promise<AsyncDisposable> {
  await claimSocket(path, "API");
  const listening = Promise.withResolvers<void>();
  const server = Deno.serve({
    path,
    onListen() {
      Deno.chmodSync(path, 0o600);
      listening.resolve();
    },
  }, handle);
  await listening.promise;
  log.info("API is served", { socket: path });
  return {
    async [Symbol.asyncDispose]() {
      await closeServer(server, clock);
      await removeSocket(path);
    },
  };
}

async function servePort(
  { hostname, port, tokenFile, tls }: NonNullable<ApiSettings["port"]>,
  handle: (request: Request, from: () => Promise<Bindings>) => Promise<Response>,
  { clock, log }: ApiParts,
): Promise<AsyncDisposable & { port: number }> {
  await readToken(tokenFile);
  const files = tls && { cert: await Deno.readTextFile(tls.certFile), key: await Deno.readTextFile(tls.keyFile) };
  const server = Deno.serve({ ...{ hostname, port, ...files }, onListen() {} }, (request, { remoteAddr }) => {
    return handle(request, async () => ({
      door: { is: "port", token: await readToken(tokenFile) },
      from: remoteAddr.hostname,
    }));
  });
  log.info("API is served", { host: hostname, port: server.addr.port, tls: tls !== undefined, tokenFile });
  return {
    port: server.addr.port,
    [Symbol.asyncDispose]: () => closeServer(server, clock),
  };
}
