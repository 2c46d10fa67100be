import { runOk } from "../../lib/process.ts";
import { Certificate, makeAuthority } from "./certificates.ts";
import { freePorts, uniqueSuffix } from "./port.ts";
import { startStoreProcess } from "./store.ts";
import { wait } from "./wait.ts";

/** What sort of etcd is wanted. */
export interface EtcdOptions {
  /** TLS with client certificates; see Etcd.tls. */
  tls?: boolean;
  /** Users and passwords switched on; see Etcd.user. */
  auth?: boolean;
  /** Default: a new folder under /dev/shm, removed with the server. One that is given is kept. */
  dataDir?: string;
  /** Address it listens at, for hosts on a wire. Default 127.0.0.1. */
  address?: string;
  /** Client port. Default: a free one. */
  port?: number;
  /** Network namespace it runs in. Default: this process's. */
  netns?: string;
  /** Which program: etcd, or `tortie store`. Default: TORTIE_LAB_DATASTORE, else etcd. With TLS or auth always etcd. */
  server?: "etcd" | "store";
  /** More of etcd's own flags: `--quota-backend-bytes=4194304`. */
  flags?: string[];
  /** Lives on when this process ends. Default false: the kernel kills it with its parent. */
  outlive?: boolean;
}

/** A real etcd of one member that this process started, and that was seen to be the one that answers. */
export interface Etcd extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, or https. */
  readonly endpoint: string;
  /** Address and port alone, for proxies. */
  readonly address: string;
  readonly port: number;
  readonly dataDir: string;
  readonly pid: number;
  /** Authority, and a client certificate of the user root; undefined without TLS. `authority` signs more. */
  readonly tls?: { caFile: string; client: Certificate; authority: Awaited<ReturnType<typeof makeAuthority>> };
  /** A user that may do anything; undefined without auth. */
  readonly user?: { name: string; password: string };
  /** Freezes it: connections stay open and nothing answers (SIGSTOP). */
  stop(): void;
  /** Ends a stop() (SIGCONT). */
  cont(): void;
  /** kill -9, and waits for its end. The data stays. */
  kill(): Promise<void>;
  /** Starts it again on the same ports and data (kills it first when it runs) and waits until it answers. */
  restart(): Promise<void>;
  /** Compacts at the newest revision, or at the given one. */
  compact(revision?: bigint): Promise<void>;
  /** Runs etcdctl against it with the right credentials. */
  etcdctl(...args: string[]): Promise<string>;
  /** All keys and values below a prefix, for looking at what somebody wrote. */
  dump(prefix?: string): Promise<Map<string, string>>;
}

/**
 * Starts etcd on free ports with its data in memory.
 * @throws when it does not answer within 20 s, or when somebody else's etcd answers at its port; the error has the end of its log.
 */
export async function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  const kind = options.server ?? Deno.env.get("TORTIE_LAB_DATASTORE");
  if (kind === "store" && !options.tls && !options.auth) return await startStoreProcess(options);
  for (let attempt = 1;; attempt++) {
    const server = new EtcdServer(options);
    try {
      await server.begin();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      // Somebody took the port between our look and etcd's bind.
      if (attempt === 3 || options.port !== undefined || !/address already in use/.test(String(error))) throw error;
    }
  }
}

/** Keys and values of what `etcdctl get -w json` printed. */
export function valuesOf(json: string): Map<string, string> {
  const text = (base64: string) => new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)));
  const { kvs = [] } = JSON.parse(json) as { kvs?: { key: string; value?: string }[] };
  return new Map(kvs.map((kv) => [text(kv.key), text(kv.value ?? "")]));
}

class EtcdServer implements Etcd {
  readonly dataDir: string;
  readonly address: string;
  readonly port: number;
  readonly endpoint: string;
  tls: Etcd["tls"];
  user: Etcd["user"];
  readonly #options: EtcdOptions;
  readonly #name = `lab-${uniqueSuffix()}`;
  readonly #peerPort: number;
  #child: Deno.ChildProcess | undefined;
  #server: Certificate | undefined;

  constructor(options: EtcdOptions) {
    this.#options = options;
    const [client, peer] = freePorts(2) as [number, number];
    this.port = options.port ?? client;
    this.#peerPort = peer;
    this.address = options.address ?? "127.0.0.1";
    this.endpoint = `${options.tls ? "https" : "http"}://${this.address}:${this.port}`;
    this.dataDir = options.dataDir ?? `/dev/shm/tortie-etcd-${this.#name}`;
  }

  get pid(): number {
    if (!this.#child) throw new Error("etcd does not run");
    return this.#child.pid;
  }

  async begin(): Promise<void> {
    await Deno.mkdir(this.dataDir, { recursive: true, mode: 0o700 });
    if (this.#options.tls) await this.#makeCertificates();
    await this.#start();
    if (this.#options.auth) await this.#switchAuthOn();
  }

  stop(): void {
    const child = this.#child;
    if (!child) return;
    child.kill("SIGSTOP");
    // Its threads stop one by one, and one that runs on may still answer.
    const end = performance.now() + 2_000;
    while (performance.now() < end && !threadsOf(child.pid).every((state) => state === "T")) { /* a moment */ }
  }

  cont(): void {
    this.#child?.kill("SIGCONT");
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    try {
      child.kill("SIGKILL");
    } catch { /* it had ended */ }
    await child.status;
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.#start();
  }

  async compact(revision?: bigint): Promise<void> {
    const at = revision ?? BigInt(JSON.parse(await this.etcdctl("get", "x", "-w", "json")).header.revision);
    await this.etcdctl("compact", String(at));
  }

  async etcdctl(...args: string[]): Promise<string> {
    const tls = this.tls
      ? ["--cacert", this.tls.caFile, "--cert", this.tls.client.certFile, "--key", this.tls.client.keyFile]
      : [];
    const user = this.user ? ["--user", `${this.user.name}:${this.user.password}`] : [];
    const all = ["--endpoints", this.endpoint, "--command-timeout", "5s", ...tls, ...user, ...args];
    const [program, before] = this.#inNetns("etcdctl");
    return await runOk(program, [...before, ...all], {
      env: { ETCDCTL_API: "3" },
      timeoutMs: 15_000,
      maxOutputBytes: 1 << 30,
    });
  }

  async dump(prefix = "/"): Promise<Map<string, string>> {
    return valuesOf(await this.etcdctl("get", "--prefix", prefix, "-w", "json"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.#options.dataDir === undefined) {
      await Deno.remove(this.dataDir, { recursive: true }).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    }
  }

  #inNetns(program: string): [string, string[]] {
    const netns = this.#options.netns;
    return netns ? ["nsenter", [`--net=/run/netns/${netns}`, program]] : [program, []];
  }

  async #makeCertificates(): Promise<void> {
    const authority = await makeAuthority(this.dataDir);
    this.#server = await authority.issue("server", [this.address, "127.0.0.1", "localhost"]);
    this.tls = { caFile: authority.certFile, client: await authority.issue("root"), authority };
  }

  async #start(): Promise<void> {
    const [program, args] = this.#inNetns("etcd");
    const die = this.#options.outlive ? [] : ["--pdeathsig", "KILL"];
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const child = new Deno.Command("setpriv", {
      args: [
        ...[...die, "--", program, ...args, "--name", this.#name, "--data-dir", `${this.dataDir}/member`],
        ...["--listen-client-urls", this.endpoint, "--advertise-client-urls", this.endpoint],
        ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
        ...["--initial-cluster", `${this.#name}=${peer}`, "--initial-cluster-token", this.#name],
        // One member: short times only make its first election quick.
        ...["--heartbeat-interval", "20", "--election-timeout", "200", "--logger", "zap"],
        ...["--log-outputs", `${this.dataDir}/etcd.log`, "--max-txn-ops", "128"],
        ...this.#options.flags ?? [],
        ...(this.#server
          ? [
            ...["--cert-file", this.#server.certFile, "--key-file", this.#server.keyFile],
            ...["--client-cert-auth", "--trusted-ca-file", this.tls!.caFile],
          ]
          : []),
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    let ended = false;
    child.status.then(() => ended = true);
    await wait("etcd to answer", () => {
      if (ended) return true;
      return this.#isOurs();
    }, { deadlineMs: 20_000, everyMs: 30 }).catch((error) => {
      throw new Error(`${error.message}\n${this.#logTail()}`);
    });
    if (ended) throw new Error(`etcd ended by itself:\n${this.#logTail()}`);
  }

  /** True when the member that answers has our name; throws while nobody answers. */
  async #isOurs(): Promise<boolean> {
    const list = JSON.parse(await this.etcdctl("member", "list", "-w", "json")) as { members: { name: string }[] };
    if (list.members[0]?.name !== this.#name) throw new Error(`${this.endpoint} is not our etcd`);
    return true;
  }

  #logTail(): string {
    try {
      return Deno.readTextFileSync(`${this.dataDir}/etcd.log`).split("\n").slice(-8).join("\n");
    } catch {
      return "(no log)";
    }
  }

  async #switchAuthOn(): Promise<void> {
    const user = { name: "root", password: `pw-${this.#name}` };
    if ((await this.etcdctl("user", "list")).includes("root")) return;
    await this.etcdctl("user", "add", `${user.name}:${user.password}`);
    await this.etcdctl("user", "grant-role", "root", "root");
    await this.etcdctl("auth", "enable");
    this.user = user;
  }
}

/** State letters of a process' threads (proc(5), stat). */
const threadsOf = (pid: number): string[] =>
  [...Deno.readDirSync(`/proc/${pid}/task`)].map(({ name }) =>
    Deno.readTextFileSync(`/proc/${pid}/task/${name}/stat`).replace(/^.*\) /s, "").charAt(0)
  );
