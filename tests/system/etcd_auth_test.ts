/** Users, tokens, members that fail, and servers that do not answer. */
import assert from "node:assert/strict";
import { openEtcd } from "../../datastore/etcd.ts";
import type { StoreOptions } from "../../datastore/options.ts";
import { prefixRange, type Store, type WatchState } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { isProblem } from "../../lib/problem.ts";
import { runOk } from "../../lib/process.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";

const deps = { clock: systemClock, log: silentLog };

/** grpc-js lets the timer of its next attempt run out (1 s) after a channel is closed that could not connect. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

const options = (etcd: Etcd, more: Partial<StoreOptions> = {}): StoreOptions => ({
  endpoints: [etcd.endpoint],
  username: etcd.user?.name,
  password: etcd.user?.password,
  deadlineMs: 5_000,
  ...more,
});

const put = (store: Store, key: string, value: string) => store.txn({ compare: [], write: [{ put: key, value }] });

Deno.test("user and password are carried by calls, watches and leases", async () => {
  await using etcd = await startEtcd({ auth: true });
  await using store = openEtcd(options(etcd), deps);
  await using lease = await store.lease(60);
  await store.txn({ compare: [], write: [{ put: "/x", value: "1", lease: lease.id }] });
  const stop = new AbortController();
  const first = await store.watch(prefixRange("/x"), 1n, { signal: stop.signal }).next();
  stop.abort();
  assert.equal(first.value?.events[0]?.value, "1");
  assert.equal(store.requests["authenticate"], 1, "one token for all");
});

Deno.test("a wrong password and a missing user are unauthorized, with what to do", async () => {
  await using etcd = await startEtcd({ auth: true });
  const wrong: [Partial<StoreOptions>, RegExp][] = [
    [{ password: "wrong" }, /refused user and password.*ETCD_PASSWORD/],
    [{ username: "nobody" }, /refused user and password.*ETCD_USERNAME/],
    [{ username: undefined, password: undefined }, /wants a user and none is set.*ETCD_USERNAME/],
  ];
  for (const [part, message] of wrong) {
    await using store = openEtcd(options(etcd, part), deps);
    const refused = (e: unknown) =>
      isProblem(e, "unauthorized") && message.test(e.message) && e.where === etcd.endpoint;
    await assert.rejects(store.get("/x"), refused);
    await assert.rejects(put(store, "/x", "1"), refused);
    const signal = new AbortController().signal;
    await assert.rejects(store.watch(prefixRange("/x"), 1n, { signal }).next(), (e) => isProblem(e, "unauthorized"));
  }
});

Deno.test("a user and password for an etcd without authentication do no harm, also when it is switched on", async () => {
  await using etcd = await startEtcd();
  await using store = openEtcd(options(etcd, { username: "root", password: "pw" }), deps);
  await put(store, "/x", "1");
  await etcd.etcdctl("user", "add", "root:pw");
  await etcd.etcdctl("user", "grant-role", "root", "root");
  await etcd.etcdctl("auth", "enable");
  await put(store, "/x", "2");
  assert.equal((await store.get("/x"))?.value, "2");
});

Deno.test("keys that the user's role does not hold are unauthorized, others work", async () => {
  await using etcd = await startEtcd({ auth: true });
  await etcd.etcdctl("role", "add", "calico");
  await etcd.etcdctl("role", "grant-permission", "calico", "--prefix=true", "readwrite", "/calico/");
  await etcd.etcdctl("user", "add", "tortie:pw");
  await etcd.etcdctl("user", "grant-role", "tortie", "calico");
  await using store = openEtcd(options(etcd, { username: "tortie", password: "pw" }), deps);
  await put(store, "/calico/x", "1");
  await assert.rejects(put(store, "/other", "1"), (e) => isProblem(e, "unauthorized") && /role/.test(e.todo ?? ""));
  const stop = new AbortController();
  const { value } = await store.watch(prefixRange("/calico/"), 1n, { signal: stop.signal }).next();
  stop.abort();
  assert.equal(value?.events[0]?.value, "1");
  const signal = new AbortController().signal;
  await assert.rejects(store.watch(prefixRange("/"), 1n, { signal }).next(), (e) => isProblem(e, "unauthorized"));
});

Deno.test(
  "an etcd with users starts again: calls succeed, watches and leases go on, whether it knows its tokens or not",
  withLateTimer,
  async () => {
    await using etcd = await startEtcd({ auth: true });
    await using store = openEtcd(options(etcd), deps);
    // Longer than three restarts of etcd take on a busy machine.
    await using lease = await store.lease(6);
    await store.txn({ compare: [], write: [{ put: "/leased", value: "1", lease: lease.id }] });
    const stop = new AbortController(), seen: (string | undefined)[] = [], states: WatchState[] = [];
    const watching = (async () => {
      const onState = (s: WatchState) => void states.push(s);
      for await (const b of store.watch(prefixRange("/x"), 1n, { signal: stop.signal, onState })) {
        seen.push(...b.events.map((e) => e.value));
      }
    })();
    for (const value of ["1", "2", "3"]) {
      await wait(
        "a write",
        () => put(store, "/x", value).catch((e) => isProblem(e, "unavailable") ? undefined : Promise.reject(e)),
      );
      await wait("the watch to see it", () => seen.includes(value));
      await etcd.restart(); // its tokens live in memory; replaying its log gives it some of them back
    }
    const renewals = () => store.requests["leaseKeepAlive"] ?? 0;
    const before = renewals();
    await wait("the lease to be renewed after the restart", () => renewals() >= before + 2, { deadlineMs: 20_000 });
    assert.equal((await store.get("/leased"))?.value, "1");
    stop.abort();
    await watching;
    assert.deepEqual(seen, ["1", "2", "3"]);
    assert.equal(lease.lost.aborted, false);
  },
);

Deno.test("tokens that run out by time are renewed", async () => {
  await using server = await startJwtEtcd("1s");
  await using store = openEtcd({ ...server.options, deadlineMs: 5_000 }, deps);
  const began = performance.now();
  for (let i = 0; performance.now() - began < 3_500; i++) await put(store, "/x", `${i}`);
  assert.ok(store.requests["authenticate"]! >= 3, `${store.requests["authenticate"]} tokens in 3.5 s`);
});

Deno.test("with one endpoint dead, calls and watches use another, whatever the order", withLateTimer, async () => {
  await using etcd = await startEtcd();
  const [dead] = freePorts(1);
  for (const random of [0, 0.99]) {
    await using store = openEtcd(
      options(etcd, { endpoints: [`http://127.0.0.1:${dead}`, etcd.endpoint] }),
      { ...deps, random: () => random },
    );
    const began = performance.now();
    const { revision } = await put(store, "/x", "1");
    const stop = new AbortController();
    const { value } = await store.watch(prefixRange("/x"), revision, { signal: stop.signal }).next();
    stop.abort();
    assert.equal(value?.events.length, 1);
    assert.ok(performance.now() - began < 2_000);
  }
});

Deno.test("a member that dies or freezes is left for another one", withLateTimer, async () => {
  await using cluster = await startCluster();
  const lines: string[] = [];
  const log = createLog("etcd", { write: (line) => lines.push(line) });
  await using store = openEtcd({ endpoints: cluster.endpoints, deadlineMs: 3_000 }, { ...deps, log, random: () => 0 });
  const { revision } = await put(store, "/x", "0");
  const seen: (string | undefined)[] = [], stop = new AbortController();
  const watching = (async () => {
    for await (const b of store.watch(prefixRange("/x"), revision, { signal: stop.signal })) {
      seen.push(...b.events.map((e) => e.value));
    }
  })();
  await wait("the watch", () => seen.length === 1);
  cluster.children[0]!.kill("SIGSTOP"); // the member in use: frozen, its connections stand
  const began = performance.now();
  assert.equal((await store.get("/x"))?.value, "0", "a read moves on within its deadline");
  assert.ok(performance.now() - began < 3_000);
  await wait("a write", () => put(store, "/x", "1").catch(() => undefined), { deadlineMs: 20_000 });
  await wait("the watch to leave the frozen member", () => seen.includes("1"), { deadlineMs: 25_000 });
  cluster.children[0]!.kill("SIGCONT");
  cluster.children[1]!.kill("SIGKILL"); // the one in use now
  await wait("a write", () => put(store, "/x", "2").catch(() => undefined), { deadlineMs: 20_000 });
  await wait("the watch on a third member", () => seen.includes("2"), { deadlineMs: 25_000 });
  stop.abort();
  await watching;
  assert.deepEqual(seen.filter((v, i) => v !== seen[i - 1]), ["0", "1", "2"]);
  assert.ok(lines.some((l) => /using another/.test(l)), lines.join(""));
});

Deno.test("a frozen etcd costs a call its deadline, no more, and the message says so", async () => {
  await using etcd = await startEtcd();
  await using store = openEtcd(options(etcd), deps);
  await put(store, "/x", "1");
  etcd.stop();
  const late = (e: unknown) =>
    isProblem(e, "unavailable") && /within 500 ms/.test(e.message) && e.where === etcd.endpoint;
  const calls: (() => Promise<unknown>)[] = [
    () => store.get("/x", { deadlineMs: 500 }),
    () => store.read(["/x"], { deadlineMs: 500 }),
    () => store.list(prefixRange("/"), () => {}, { deadlineMs: 500 }),
    () => store.txn({ compare: [], write: [{ put: "/x", value: "2" }] }, { deadlineMs: 500 }),
    () => store.lease(10, { deadlineMs: 500 }),
    () => store.status({ deadlineMs: 500 }),
  ];
  for (const call of calls) {
    const began = performance.now();
    await assert.rejects(call(), late);
    const took = performance.now() - began;
    assert.ok(took > 400 && took < 1_500, `${took} ms`);
  }
  const stop = new AbortController();
  const aborted = assert.rejects(store.get("/x", { signal: stop.signal }), /enough/);
  stop.abort(new Error("enough"));
  await aborted;
  etcd.cont();
  await wait("it to answer again", async () => (await store.get("/x"))?.value);
});

Deno.test("an etcd that is not there fails at once, and is found when it comes", withLateTimer, async () => {
  await using etcd = await startEtcd();
  await using store = openEtcd(options(etcd), deps);
  await put(store, "/x", "1");
  await etcd.kill();
  const began = performance.now();
  await assert.rejects(store.get("/x"), (e) => isProblem(e, "unavailable") && /ETCD_ENDPOINTS/.test(e.todo ?? ""));
  assert.ok(performance.now() - began < 1_000);
  await etcd.restart();
  const back = performance.now();
  await wait("it to answer again", async () => (await store.get("/x"))?.value);
  assert.ok(performance.now() - back < 2_000, `${performance.now() - back} ms`);
});

/** Three members on free ports, without TLS or users. */
async function startCluster(): Promise<AsyncDisposable & { endpoints: string[]; children: Deno.ChildProcess[] }> {
  const ports = freePorts(6), dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "h1-cluster-" });
  const url = (i: number) => `http://127.0.0.1:${ports[i]}`;
  const initial = [0, 1, 2].map((i) => `m${i}=${url(i + 3)}`).join(",");
  const children = [0, 1, 2].map((i) =>
    new Deno.Command("setpriv", {
      args: [
        ...["--pdeathsig", "KILL", "--", "etcd", "--name", `m${i}`, "--data-dir", `${dir}/m${i}`],
        ...["--listen-client-urls", url(i), "--advertise-client-urls", url(i), "--listen-peer-urls", url(i + 3)],
        ...["--initial-advertise-peer-urls", url(i + 3), "--initial-cluster", initial, "--initial-cluster-token", dir],
        ...["--log-outputs", `${dir}/m${i}.log`, "--logger", "zap"],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn()
  );
  const endpoints = [0, 1, 2].map(url);
  await wait("three members with a leader", async () => {
    const env = { ETCDCTL_API: "3" };
    const args = ["--endpoints", endpoints.join(","), "--command-timeout", "3s", "endpoint", "status", "-w", "json"];
    const status = JSON.parse(await runOk("etcdctl", args, { env })) as { Status: { leader?: number } }[];
    return status.length === 3 && status.every((s) => s.Status.leader);
  }, { deadlineMs: 20_000 });
  return {
    endpoints,
    children,
    async [Symbol.asyncDispose]() {
      for (const child of children) {
        try {
          child.kill("SIGKILL");
        } catch { /* it was killed by the test */ }
        await child.status;
      }
      await Deno.remove(dir, { recursive: true });
    },
  };
}

/** One member whose tokens are signed texts that run out after `ttl`. */
async function startJwtEtcd(ttl: string): Promise<AsyncDisposable & { options: StoreOptions }> {
  const ports = freePorts(2), dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "h1-jwt-" });
  await runOk("openssl", ["genrsa", "-out", `${dir}/key`, "2048"]);
  await runOk("openssl", ["rsa", "-in", `${dir}/key`, "-pubout", "-out", `${dir}/pub`]);
  const [client, peer] = [`http://127.0.0.1:${ports[0]}`, `http://127.0.0.1:${ports[1]}`];
  const child = new Deno.Command("setpriv", {
    args: [
      ...["--pdeathsig", "KILL", "--", "etcd", "--name", dir, "--data-dir", `${dir}/data`],
      ...["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer],
      ...["--initial-advertise-peer-urls", peer, "--initial-cluster", `${dir}=${peer}`],
      ...["--auth-token", `jwt,pub-key=${dir}/pub,priv-key=${dir}/key,sign-method=RS256,ttl=${ttl}`],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const etcdctl = (...args: string[]) =>
    runOk("etcdctl", ["--endpoints", client, "--command-timeout", "3s", ...args], { env: { ETCDCTL_API: "3" } });
  await wait("etcd to answer", async () => (await etcdctl("member", "list")).includes(dir), { deadlineMs: 20_000 });
  await etcdctl("user", "add", "root:pw");
  await etcdctl("user", "grant-role", "root", "root");
  await etcdctl("auth", "enable");
  return {
    options: { endpoints: [client], username: "root", password: "pw", deadlineMs: 5_000 },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await Deno.remove(dir, { recursive: true });
    },
  };
}
