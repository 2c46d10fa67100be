/** TLS towards etcd: addresses as endpoints, who is trusted, and certificates that are replaced while we run. */
import assert from "node:assert/strict";
import { openEtcd } from "../../datastore/etcd.ts";
import type { StoreOptions } from "../../datastore/options.ts";
import { prefixRange, type WatchState } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { isProblem, type Problem } from "../../lib/problem.ts";
import { makeAuthority } from "../lab/certificates.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { wait } from "../lab/wait.ts";

const deps = { clock: systemClock, log: silentLog };

/** grpc-js lets the timer of its next attempt run out (1 s) after a channel is closed that could not connect. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

/** Options that are right for `etcd`. */
function options(etcd: Etcd): StoreOptions {
  const { caFile, client } = etcd.tls!;
  return { endpoints: [etcd.endpoint], caFile, ...client, deadlineMs: 5_000 };
}

/** What a get() with these options fails with. */
async function failure(options: StoreOptions): Promise<Problem> {
  await using store = openEtcd(options, deps);
  try {
    await store.get("/x");
  } catch (error) {
    assert(isProblem(error), String(error));
    return error;
  }
  assert.fail("the connection was accepted");
}

Deno.test("https to an address works when the certificate names only the address", withLateTimer, async () => {
  await using etcd = await startEtcd({ tls: true });
  assert.match(etcd.endpoint, /^https:\/\/127\.0\.0\.1:/);
  await replaceServerCertificate(etcd, ["127.0.0.1"]);
  await using store = openEtcd(options(etcd), deps);
  await store.txn({ compare: [], write: [{ put: "/x", value: "1" }] });
  assert.equal((await store.get("/x"))?.value, "1");
});

Deno.test("a server whose certificate names another address is refused, with what to do", withLateTimer, async () => {
  await using etcd = await startEtcd({ tls: true });
  await replaceServerCertificate(etcd, ["127.0.0.2", "localhost"], false);
  const problem = await failure(options(etcd));
  assert.equal(problem.code, "unavailable");
  assert.match(problem.what, /not trusted/);
  assert.match(problem.todo ?? "", /ETCD_CA_CERT_FILE/);
  assert.equal(problem.where, etcd.endpoint);
});

Deno.test("a server of another authority is refused", withLateTimer, async () => {
  await using etcd = await startEtcd({ tls: true });
  const other = await makeAuthority(etcd.dataDir, "other-ca");
  const problem = await failure({ ...options(etcd), caFile: other.certFile });
  assert.equal(problem.code, "unavailable");
  assert.match(problem.what, /not trusted/);
});

Deno.test("a client without certificate, or with one of another authority, is told so", withLateTimer, async () => {
  await using etcd = await startEtcd({ tls: true });
  const good = options(etcd);
  const other = await makeAuthority(etcd.dataDir, "other-ca");
  const foreign = await other.issue("foreign");
  for (const wrong of [{ ...good, certFile: undefined, keyFile: undefined }, { ...good, ...foreign }]) {
    const problem = await failure(wrong);
    // The server's alert races with its closing of the connection: when it is lost, only the broken connection is seen.
    assert.ok(["unauthorized", "unavailable"].includes(problem.code));
    assert.match(problem.message, /(refused our client certificate|connection to etcd broke).*ETCD_CERT_FILE/);
  }
});

Deno.test("files that are missing, or are no certificates, are refused before anything is dialled", async () => {
  await using etcd = await startEtcd({ tls: true });
  const good = options(etcd);
  const garbage = `${etcd.dataDir}/garbage`;
  await Deno.writeTextFile(garbage, "garbage");
  const wrong: [Partial<StoreOptions>, RegExp][] = [
    [{ caFile: `${garbage}-missing` }, /cannot be read.*garbage-missing/],
    [{ caFile: garbage }, /no PEM certificate.*garbage/],
    [{ keyFile: good.certFile }, /no PEM private key.*root\.crt/],
  ];
  for (const [part, message] of wrong) {
    assert.throws(
      () => openEtcd({ ...good, ...part }, deps),
      (e) => isProblem(e, "bad-input") && message.test(e.message),
    );
  }
});

Deno.test("inline PEM text works as files do", async () => {
  await using etcd = await startEtcd({ tls: true });
  const { caFile, certFile, keyFile, ...rest } = options(etcd);
  const read = (f?: string) => Deno.readTextFile(f!);
  const pem = { caPem: await read(caFile), certPem: await read(certFile), keyPem: await read(keyFile) };
  await using store = openEtcd({ ...rest, ...pem }, deps);
  assert.equal(await store.get("/x"), undefined);
});

Deno.test(
  "a client certificate that is replaced on disk is used at the next connect, also by a watch",
  withLateTimer,
  async () => {
    await using etcd = await startEtcd({ tls: true });
    // etcd takes the certificate's name as user: who may write tells which certificate was used.
    await etcd.etcdctl("user", "add", "root:x");
    await etcd.etcdctl("user", "grant-role", "root", "root");
    await etcd.etcdctl("user", "add", "nobody:x");
    await etcd.etcdctl("auth", "enable");
    const { authority } = etcd.tls!;
    const nobody = await authority.issue("nobody");
    const mine = { certFile: `${etcd.dataDir}/mine.crt`, keyFile: `${etcd.dataDir}/mine.key` };
    const use = async (c: { certFile: string; keyFile: string }) => {
      await Deno.copyFile(c.certFile, mine.certFile);
      await Deno.copyFile(c.keyFile, mine.keyFile);
    };
    await use(nobody);
    await using store = openEtcd({ ...options(etcd), ...mine }, deps);
    await assert.rejects(store.get("/x"), (e) => isProblem(e, "unauthorized") && /role/.test(e.todo ?? ""));

    await use(etcd.tls!.client);
    await assert.rejects(store.get("/x"), (e) => isProblem(e, "unauthorized"), "a standing connection keeps its own");
    await etcd.restart();
    await wait("a call with the new certificate", async () => {
      await store.txn({ compare: [], write: [{ put: "/x", value: "1" }] });
      return true;
    });
    const states: WatchState[] = [], stop = new AbortController();
    const options_ = { signal: stop.signal, onState: (s: WatchState) => void states.push(s) };
    const watching = store.watch(prefixRange("/x"), 1n, options_).next();
    assert.equal((await watching).value?.events[0]?.value, "1");
    stop.abort();
    assert.deepEqual(states, [{ connected: true }]);
  },
);

Deno.test("certificate files that are half replaced leave the last good ones in force", withLateTimer, async () => {
  await using etcd = await startEtcd({ tls: true });
  const mine = { certFile: `${etcd.dataDir}/mine.crt`, keyFile: `${etcd.dataDir}/mine.key` };
  await Deno.copyFile(etcd.tls!.client.certFile, mine.certFile);
  await Deno.copyFile(etcd.tls!.client.keyFile, mine.keyFile);
  const lines: string[] = [];
  const log = createLog("etcd", { write: (line) => lines.push(line) });
  await using store = openEtcd({ ...options(etcd), ...mine }, { ...deps, log });
  assert.equal(await store.get("/x"), undefined);
  await Deno.writeTextFile(mine.certFile, "");
  await etcd.restart();
  await wait("a call over a new connection", async () => (await store.get("/x"), true));
  assert.ok(lines.some((l) => /last good ones stay/.test(l)), lines.join(""));
});

/** Gives the server a certificate that is valid for `hosts` only, and starts it again. */
async function replaceServerCertificate(etcd: Etcd, hosts: string[], reachable = true): Promise<void> {
  await etcd.tls!.authority.issue("server", hosts);
  if (reachable) await etcd.restart();
  // etcd reads its certificate at each handshake, so a client that would refuse it needs no restart, which looks by etcdctl.
}
