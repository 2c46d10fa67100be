/** `tortie api` as a process, against a real etcd: socket, port, token, TLS, curl, kill -9, and a real browser (chromium). */
import assert from "node:assert/strict";
import { isObject, parseJson } from "../../lib/json64.ts";
import { run, type Running, runOk, start } from "../../lib/process.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { makeAuthority } from "../lab/certificates.ts";
import { freePorts } from "../lab/port.ts";
import { binary } from "../lab/tortie.ts";
import { wait } from "../lab/wait.ts";

const base = "/apis/projectcalico.org/v3";

interface Api extends AsyncDisposable {
  dir: string;
  socket: string;
  port: number;
  process: Running;
  token(): Promise<string>;
  curl(...args: string[]): Promise<string>;
  /** What the port answers. */
  ask(path: string, init?: RequestInit): Promise<Response>;
}

/** Runs until it is killed, a minute at most. */
const spawn = (etcd: Etcd, args: string[]): Running =>
  start(binary, ["api", ...args], { env: { ETCD_ENDPOINTS: etcd.endpoint }, timeoutMs: 60_000 });

const listens = (options: Deno.ConnectOptions | Deno.UnixConnectOptions) =>
  wait("the API", async () => {
    (await Deno.connect(options as Deno.ConnectOptions)).close();
    return true;
  });

async function startApi(etcd: Etcd, more: string[] = []): Promise<Api> {
  const dir = await Deno.makeTempDir({ prefix: "tortie-api-" });
  const [port] = freePorts(1), socket = `${dir}/run/api.sock`, tokenFile = `${dir}/token`;
  const process = spawn(etcd, [
    "--socket",
    socket,
    "--listen",
    `127.0.0.1:${port}`,
    "--token-file",
    tokenFile,
    ...more,
  ]);
  await listens({ port: port! });
  const token = async () => (await Deno.readTextFile(tokenFile)).trim();
  return {
    ...{ dir, socket, port: port!, process, token },
    curl: (...args) => runOk("curl", ["-sS", "--unix-socket", socket, ...args]),
    ask: async (path, init) =>
      await fetch(`http://127.0.0.1:${port}${path}`, {
        ...init,
        headers: { authorization: `Bearer ${await token()}`, ...init?.headers },
      }),
    async [Symbol.asyncDispose]() {
      await killed(process);
      await Deno.remove(dir, { recursive: true });
    },
  };
}

/** Ends a process, and waits for its end; one that has ended is fine. */
async function killed({ pid, result }: Running, signal: Deno.Signal = "SIGKILL"): Promise<number> {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return (await result).code;
}

const ctl = (etcd: Etcd, stdin: string) =>
  runOk(binary, ["ctl", "apply", "-f", "-"], { env: { ETCD_ENDPOINTS: etcd.endpoint }, stdin });

const pool = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: main}, spec: {cidr: 10.7.0.0/24}}\n";

Deno.test("what ctl writes curl reads, what curl writes ctl reads, and a stale write is refused", async () => {
  await using etcd = await startEtcd();
  await using api = await startApi(etcd);
  await ctl(etcd, pool);
  const read = parseJson(await api.curl(`http://t${base}/ippools/main`));
  assert.ok(isObject(read) && isObject(read.spec) && read.spec.cidr === "10.7.0.0/24");
  const patch = ["-X", "PATCH", "-d", '{"spec":{"natOutgoing":true}}', `http://t${base}/ippools/main`];
  await api.curl(...patch);
  const env = { ETCD_ENDPOINTS: etcd.endpoint };
  assert.match(await runOk(binary, ["ctl", "get", "ippool", "main", "-o", "yaml"], { env }), /natOutgoing: true/);
  const stale = await api.ask(`${base}/ippools/main`, { method: "PUT", body: JSON.stringify(read) });
  assert.deepEqual([stale.status, (await stale.json()).reason], [409, "Conflict"]);
});

Deno.test("the port wants the token, which may be replaced while it runs; others may not read its file", async () => {
  await using etcd = await startEtcd();
  await using api = await startApi(etcd);
  const status = async (headers: HeadersInit) => {
    const response = await fetch(`http://127.0.0.1:${api.port}${base}/ippools`, { headers });
    await response.body?.cancel();
    return response.status;
  };
  const first = await api.token();
  assert.equal((await Deno.stat(`${api.dir}/token`)).mode! & 0o777, 0o600);
  assert.equal((await Deno.stat(api.socket)).mode! & 0o777, 0o600);
  assert.equal(await status({}), 401);
  assert.equal(await status({ authorization: `Bearer ${first}` }), 200);
  await Deno.writeTextFile(`${api.dir}/token`, "another-token-of-24-letters\n");
  assert.equal(await status({ authorization: `Bearer ${first}` }), 401);
  assert.equal(await status({ authorization: "Bearer another-token-of-24-letters" }), 200);
  await Deno.chmod(`${api.dir}/token`, 0o644);
  assert.equal(await status({ authorization: "Bearer another-token-of-24-letters" }), 500);
});

Deno.test("a watch over HTTP goes on until the client leaves, and the end of the process ends it", async () => {
  await using etcd = await startEtcd();
  await using api = await startApi(etcd);
  const response = await api.ask(`${base}/ippools?watch=true`);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  await ctl(etcd, pool);
  let text = "";
  while (!/event: ADDED\nid: \d+\ndata: .*"10.7.0.0\/24"/.test(text)) text += (await reader.read()).value ?? "";
  const code = killed(api.process, "SIGTERM");
  while (!(await reader.read()).done);
  assert.equal(await code, 0);
  await assert.rejects(Deno.stat(api.socket), Deno.errors.NotFound);
});

Deno.test("a socket that a killed API left is taken over; one that answers is not", async () => {
  await using etcd = await startEtcd();
  await using api = await startApi(etcd);
  const again = () =>
    run(binary, ["api", "--socket", api.socket], {
      env: { ETCD_ENDPOINTS: etcd.endpoint },
      timeoutMs: 5_000,
    });
  const second = await again();
  assert.equal(second.code, 1);
  assert.match(second.stderr, /another API answers here/);
  await killed(api.process);
  const third = spawn(etcd, ["--socket", api.socket]);
  await listens({ transport: "unix", path: api.socket });
  assert.match(await api.curl("http://t/healthz"), /"live":true/);
  assert.equal(await killed(third, "SIGTERM"), 0);
});

Deno.test("beyond this host there is no port without TLS, and with TLS there is one", async () => {
  await using etcd = await startEtcd();
  const env = { ETCD_ENDPOINTS: etcd.endpoint };
  const dir = await Deno.makeTempDir({ prefix: "tortie-api-" });
  try {
    const where = ["--socket", `${dir}/s`, "--token-file", `${dir}/t`];
    const open = await run(binary, ["api", ...where, "--listen", "0.0.0.0:0"], { env, timeoutMs: 5_000 });
    assert.equal(open.code, 1);
    assert.match(open.stderr, /in clear.*TORTIE_API_CERT_FILE/s);
    const authority = await makeAuthority(dir);
    const { certFile, keyFile } = await authority.issue("api", ["127.0.0.1"]);
    await using api = await startApi(etcd, ["--cert-file", certFile, "--key-file", keyFile]);
    const url = `https://127.0.0.1:${api.port}${base}/nodes`;
    const bearer = ["-H", `Authorization: Bearer ${await api.token()}`];
    assert.match(await runOk("curl", ["-sS", "--cacert", authority.certFile, ...bearer, url]), /"kind":"NodeList"/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

const chromium = await Deno.stat("/usr/bin/chromium").then(() => "/usr/bin/chromium", () => undefined);

Deno.test({
  name: "a browser shows the pages: their style is in force, nothing is asked of elsewhere, and no error is told",
  ignore: chromium === undefined,
  async fn() {
    await using etcd = await startEtcd();
    await using api = await startApi(etcd);
    await ctl(etcd, pool);
    const address = `http://me:${await api.token()}@127.0.0.1:${api.port}`;
    const browse = async (path: string, ...args: string[]) => {
      const { stdout, stderr } = await run(chromium!, [
        ...["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"],
        ...[`--user-data-dir=${api.dir}/browser`, ...args, `${address}${path}`],
      ], { timeoutMs: 60_000 });
      const told = stderr.split("\n").filter((line) => /CONSOLE|Refused|Content Security/.test(line));
      assert.deepEqual(told, []);
      return stdout;
    };
    const pages = { "/": "Nodes", "/ipam": "10.7.0.0/24" };
    for (const [path, words] of Object.entries(pages)) {
      assert.ok((await browse(path, "--dump-dom")).includes(words), path);
    }
    await browse("/", `--screenshot=${api.dir}/page.png`, "--window-size=800,600");
    assert.ok((await Deno.stat(`${api.dir}/page.png`)).size > 5_000);
  },
});
