import type { MiddlewareHandler } from "hono";
import { json } from "./objects.ts";
import { statusOf } from "./problems.ts";

/** Who calls. */
export interface Caller {
  /** As histories name it. */
  name: string;
  /** The client's address; undefined on the unix socket. */
  from?: string;
}

/** How a listener knows its callers. */
export type Door =
  /** A unix socket of mode 0600: the kernel lets in its owner and root alone. */
  | { is: "socket" }
  /** A port, which wants the token. */
  | { is: "port"; token: string };

/** What Deno.serve tells beside the request, and what a listener adds. */
export interface Bindings {
  door: Door;
  from?: string;
}

/** Paths that probes ask without a token: they say that we live, and nothing of the cluster. */
const open = new Set(["/healthz", "/readyz"]);

/**
 * Lets in who may. On a port every request needs the token: `Authorization: Bearer TOKEN`; reading also takes HTTP Basic
 * with the token as password, which browsers can do. Writing does not, because a browser adds that by itself to what
 * other pages make it send.
 */
export const guard: MiddlewareHandler<{ Bindings: Bindings; Variables: { caller: Caller } }> = async (c, next) => {
  const { door, from } = c.env;
  if (door.is === "socket") {
    c.set("caller", { name: "api" });
    return await next();
  }
  const reads = c.req.method === "GET" || c.req.method === "HEAD";
  if (reads && open.has(c.req.path)) return await next();
  const said = c.req.header("authorization") ?? "";
  const bearer = /^bearer +(\S+)$/i.exec(said)?.[1];
  const given = bearer ?? (reads ? basicPassword(said) : undefined);
  if (given !== undefined && same(given, door.token)) {
    c.set("caller", { name: "api token", from });
    return await next();
  }
  const message = said === "" ? "a token is needed: Authorization: Bearer TOKEN" : "this token is not ours";
  return json(statusOf(401, "Unauthorized", message), 401, {
    "www-authenticate": 'Basic realm="tortie: token as password"',
  });
};

function basicPassword(said: string): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/=]+)$/i.exec(said)?.[1];
  if (encoded === undefined) return undefined;
  try {
    return atob(encoded).split(":").slice(1).join(":");
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return undefined;
  }
}

/** Compares in a time that tells nothing about where they differ. */
function same(given: string, token: string): boolean {
  const [a, b] = [given, token].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
  let different = a.length ^ b.length;
  for (let i = 0; i < b.length; i++) different |= (a[i] ?? 0) ^ b[i]!;
  return different === 0;
}
