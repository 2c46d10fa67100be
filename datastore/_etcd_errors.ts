import { Problem } from "../lib/problem.ts";
import { Compacted, Restored } from "./store.ts";

/** gRPC status codes that are looked at (grpc.github.io/grpc/core/md_doc_statuscodes.html). */
export const Status = {
  cancelled: 1,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** What a failed gRPC call says. */
export interface CallFailure {
  code: number;
  details: string;
}

/** What was asked, for the message. */
export interface CallContext {
  endpoint: string;
  deadlineMs: number;
}

/** The failure in anything thrown by grpc-js; undefined when it is a bug. */
export function failureOf(error: unknown): CallFailure | undefined {
  const e = error as Partial<CallFailure> & { message?: string };
  return typeof e?.code === "number" ? { code: e.code, details: e.details || e.message || "" } : undefined;
}

/**
 * The token is unknown to the server (it restarted, the token ran out, authentication was switched on meanwhile): a new one
 * makes the same call work.
 */
export function needsNewToken({ code, details }: CallFailure): boolean {
  return code === Status.unauthenticated ||
    /invalid auth token|revision of auth store is old|user name is empty/.test(details);
}

/** The server has no authentication: a user is not needed. */
export const authIsOff = ({ details }: CallFailure): boolean => /authentication is not enabled/.test(details);

/** The server did not answer, or could not: another member may. */
export const isAway = ({ code }: CallFailure): boolean =>
  code === Status.unavailable || code === Status.deadlineExceeded || code === Status.internal;

/**
 * What the caller is told: a Problem with the endpoint and what to do, or Compacted, or Restored (a revision that was once
 * read lies in the server's future).
 */
export function errorOf(failure: CallFailure, context: CallContext): Error {
  const { code, details } = failure;
  if (/required revision has been compacted/.test(details)) return new Compacted(0n);
  if (/required revision is a future revision/.test(details)) return new Restored("its revision went backwards");
  const where = context.endpoint;
  const row = rows.find(([matches]) => matches(failure));
  if (row) return new Problem({ ...row[1](details, context), where });
  return new Problem({
    code: "unavailable",
    what: `etcd answered with an error: ${details} (gRPC status ${code})`,
    where,
    todo: "See etcd's log",
  });
}

type Parts = Omit<ConstructorParameters<typeof Problem>[0], "where">;

const said = (pattern: RegExp) => ({ details }: CallFailure) => pattern.test(details);

/** A connection stood and was closed under us: the words of Node's sockets, of grpc-js and of rustls. */
const brokeOff = said(
  /\b(EPIPE|ECONNRESET|ECONNABORTED)\b|broken pipe|reset by peer|connection dropped|close_notify|socket (hang up|disconnected)/i,
);

/** First match wins. */
const rows: [(f: CallFailure) => boolean, (details: string, context: CallContext) => Parts][] = [
  [said(/invalid user ID or password/), () => ({
    code: "unauthorized",
    what: "etcd refused user and password",
    todo: "Check ETCD_USERNAME and ETCD_PASSWORD",
  })],
  [said(/user name is empty/), () => ({
    code: "unauthorized",
    what: "etcd wants a user and none is set",
    todo: "Set ETCD_USERNAME and ETCD_PASSWORD, or ETCD_CERT_FILE and ETCD_KEY_FILE",
  })],
  [said(/permission denied/), () => ({
    code: "unauthorized",
    what: "etcd's user may not do this",
    todo: "Grant its role the keys below /calico (etcdctl role grant-permission)",
  })],
  [(f) => needsNewToken(f), (details) => ({
    code: "unauthorized",
    what: `etcd refused our token: ${details}`,
    todo: "Check ETCD_USERNAME and ETCD_PASSWORD",
  })],
  [said(/alert.*(certificate|unknown.?ca)|bad.?certificate|certificate.?required/i), (details) => ({
    code: "unauthorized",
    what: `etcd refused our client certificate: ${details}`,
    todo: "Check ETCD_CERT_FILE and ETCD_KEY_FILE",
  })],
  [said(/invalid peer certificate|certificate|UnknownIssuer|NotValidForName/i), (details) => ({
    code: "unavailable",
    what: `etcd's certificate is not trusted: ${details}`,
    todo: "Check ETCD_CA_CERT_FILE, and that the certificate names this endpoint",
  })],
  [said(/database space exceeded/), () => ({
    code: "unavailable",
    what: "etcd's database is full",
    todo: "Compact and defragment it, then etcdctl alarm disarm",
  })],
  [said(/request is too large|too many operations|duplicate key/), (details) => ({
    code: "bad-input",
    what: `etcd refused the request: ${details}`,
    todo: "Split it",
  })],
  [said(/requested lease not found/), () => ({ code: "not-found", what: "lease is gone", todo: "Take a new lease" })],
  [({ code }) => code === Status.deadlineExceeded, (_, { deadlineMs }) => ({
    code: "unavailable",
    what: `etcd did not answer within ${deadlineMs} ms`,
    todo: "Check that it runs and has a leader (etcdctl endpoint status)",
  })],
  // grpc-js says "internal" when the connection broke under a call; etcd itself does not use it.
  // With TLS 1.3 a server refuses a client certificate when the connection stands already; its alert may be lost. What is
  // left then is our write into, or our read from, a connection the other side closed: a server that is not there refuses.
  [(f) => f.code === Status.internal || brokeOff(f), (details, { endpoint }) => ({
    code: "unavailable",
    what: `connection to etcd broke: ${details}`,
    todo: "Check that etcd runs there, that the endpoint's scheme and port are etcd's" +
      (endpoint.startsWith("https:") ? ", and ETCD_CERT_FILE and ETCD_KEY_FILE" : ""),
  })],
  [({ code }) => code === Status.unavailable, (details) => ({
    code: "unavailable",
    what: `etcd cannot be reached: ${details}`,
    todo: "Check that it runs, and scheme, host and port in ETCD_ENDPOINTS",
  })],
];
