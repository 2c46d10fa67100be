import assert from "node:assert/strict";
import { Problem } from "../lib/problem.ts";
import { errorOf, failureOf, needsNewToken, Status } from "./_etcd_errors.ts";
import { Compacted, Restored } from "./store.ts";

const context = { endpoint: "https://10.0.0.1:2379", deadlineMs: 1_000 };

Deno.test("etcd's sentences become codes with endpoint and what to do", () => {
  // Texts of etcd 3.4 (etcdserver/api/v3rpc/rpctypes/error.go), of grpc-js 1.12 and of Deno's TLS.
  const rows: [number, string, string, RegExp][] = [
    [
      Status.unavailable,
      "No connection established. Last error: connect ECONNREFUSED 10.0.0.1:2379",
      "unavailable",
      /reached/,
    ],
    [Status.deadlineExceeded, "Deadline exceeded after 1.0s", "unavailable", /within 1000 ms/],
    [Status.unavailable, "etcdserver: request timed out", "unavailable", /request timed out/],
    [Status.unavailable, "etcdserver: no leader", "unavailable", /no leader/],
    [Status.internal, "Received RST_STREAM with code 2", "unavailable", /connection to etcd broke/],
    [Status.resourceExhausted, "etcdserver: mvcc: database space exceeded", "unavailable", /database is full/],
    [
      Status.unavailable,
      "No connection established. Last error: write EPIPE",
      "unavailable",
      /connection to etcd broke/,
    ],
    [Status.unavailable, "Connection dropped", "unavailable", /connection to etcd broke/],
    [Status.unavailable, "Last error: read ECONNRESET", "unavailable", /connection to etcd broke/],
    [Status.unavailable, "invalid peer certificate: UnknownIssuer", "unavailable", /not trusted/],
    [Status.unavailable, "received fatal alert: BadCertificate", "unauthorized", /client certificate/],
    [
      Status.invalidArgument,
      "etcdserver: authentication failed, invalid user ID or password",
      "unauthorized",
      /password/,
    ],
    [Status.invalidArgument, "etcdserver: user name is empty", "unauthorized", /wants a user/],
    [Status.permissionDenied, "etcdserver: permission denied", "unauthorized", /may not do this/],
    [Status.unauthenticated, "etcdserver: invalid auth token", "unauthorized", /token/],
    [Status.invalidArgument, "etcdserver: request is too large", "bad-input", /too large/],
    [Status.notFound, "etcdserver: requested lease not found", "not-found", /lease is gone/],
    [2, "etcdserver: something new", "unavailable", /something new.*gRPC status 2/],
  ];
  for (const [code, details, want, what] of rows) {
    const problem = errorOf({ code, details }, context);
    assert.ok(problem instanceof Problem, details);
    assert.equal(problem.code, want, details);
    assert.match(problem.what, what);
    assert.equal(problem.where, context.endpoint);
    assert.ok(problem.todo, details);
  }
});

Deno.test("compacted and future revisions are no problems of the server", () => {
  const of = (details: string) => errorOf({ code: Status.outOfRange, details }, context);
  assert.ok(of("etcdserver: mvcc: required revision has been compacted") instanceof Compacted);
  assert.ok(of("etcdserver: mvcc: required revision is a future revision") instanceof Restored);
});

Deno.test("only what a new token cures asks for one", () => {
  const needs = (code: number, details: string) => needsNewToken({ code, details });
  assert.ok(needs(Status.unauthenticated, "etcdserver: invalid auth token"));
  assert.ok(needs(Status.invalidArgument, "etcdserver: revision of auth store is old"));
  assert.ok(!needs(Status.permissionDenied, "etcdserver: permission denied"));
  assert.ok(!needs(Status.invalidArgument, "etcdserver: authentication failed, invalid user ID or password"));
});

Deno.test("what carries no gRPC status is a bug and not translated", () => {
  assert.equal(failureOf(new TypeError("x is undefined")), undefined);
  assert.deepEqual(failureOf(Object.assign(new Error("14 UNAVAILABLE: gone"), { code: 14, details: "gone" })), {
    code: 14,
    details: "gone",
  });
});
