import { isObject, type Json, parseJson } from "../../lib/json64.ts";

/** What a token of a service account says of itself. Times in ms since 1970. */
export interface AccountToken {
  namespace: string;
  account: string;
  issuedMs: number;
  expiresMs: number;
}

/**
 * Reads a bound token of a service account (a JWT, RFC 7519, unverified: only the server can verify it); undefined for
 * every other token, and for one that does not expire.
 */
export function readAccountToken(token: string): AccountToken | undefined {
  const claims = claimsOf(token.split(".")[1] ?? "");
  const [, namespace, account] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(String(claims?.sub)) ?? [];
  const { iat, exp } = claims ?? {};
  if (!namespace || !account || typeof iat !== "number" || typeof exp !== "number") return undefined;
  return { namespace, account, issuedMs: iat * 1000, expiresMs: exp * 1000 };
}

/** When it is to be renewed: after a third of its life, so that a server that is away for long does no harm. */
export const renewalMs = ({ issuedMs, expiresMs }: AccountToken): number => issuedMs + (expiresMs - issuedMs) / 3;

function claimsOf(part: string): Record<string, Json> | undefined {
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const value = parseJson(new TextDecoder().decode(bytes));
    return isObject(value) ? value : undefined;
  } catch (error) {
    // atob() throws a DOMException for what is not base64.
    if (error instanceof SyntaxError || error instanceof DOMException) return undefined;
    throw error;
  }
}
