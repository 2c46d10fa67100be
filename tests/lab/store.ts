import { runOk } from "../../lib/process.ts";
import { type Etcd, type EtcdOptions, valuesOf } from "./etcd.ts";
import { freePorts, uniqueSuffix } from "./port.ts";
import { wait } from "./wait.ts";

/** A running `tortie store`; what a test of etcd can do with etcd, and its socket and file beside. */
export interface StoreProcess extends Etcd {
  /** `unix:///…`. */
  readonly socketEndpoint: string;
  readonly file: string;
  /** What it has logged so far, and after restarts. */
  log(): string;
}

const root = new URL("../..", import.meta.url).pathname;

/**
 * Starts `tortie store` out of the sources, on a free port of 127.0.0.1 and a socket in its folder, or out of the program
 * that TORTIE_BINARY names.
 * @throws when it does not answer within 20 s; the error has the end of its log.
 */
export async function startStoreProcess(options: EtcdOptions = {}): Promise<StoreProcess> {
  if (options.tls || options.auth) throw new Error("tortie store has neither TLS nor users");
  const server = new StoreServerProcess(options);
  try {
    await Deno.mkdir(server.dataDir, { recursive: true, mode: 0o700 });
    await server.restart();
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

class StoreServerProcess implements StoreProcess {
  readonly dataDir: string;
  readonly address = "127.0.0.1";
  readonly port: number;
  readonly endpoint: string;
  readonly socketEndpoint: string;
  readonly file: string;
  readonly #options: EtcdOptions;
  #child: Deno.ChildProcess | undefined;

  constructor(options: EtcdOptions) {
    if (options.address !== undefined && options.address !== "127.0.0.1") {
      throw new Error("tortie store listens on 127.0.0.1 alone");
    }
    this.#options = options;
    this.port = options.port ?? freePorts(1)[0]!;
    this.endpoint = `http://127.0.0.1:${this.port}`;
    this.dataDir = options.dataDir ?? `/dev/shm/tortie-store-${uniqueSuffix()}`;
    this.file = `${this.dataDir}/member/store.db`;
    this.socketEndpoint = `unix://${this.dataDir}/store.sock`;
  }

  get pid(): number {
    if (!this.#child) throw new Error("the store does not run");
    return this.#child.pid;
  }

  stop(): void {
    this.#child?.kill("SIGSTOP");
  }

  cont(): void {
    this.#child?.kill("SIGCONT");
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    try {
      child?.kill("SIGKILL");
    } catch { /* it had ended */ }
    await child?.status;
  }

  async restart(): Promise<void> {
    await this.kill();
    const binary = Deno.env.get("TORTIE_BINARY");
    const program = binary ? [binary] : [Deno.execPath(), "run", "-A", "--quiet", `${root}main.ts`];
    const die = this.#options.outlive ? [] : ["--pdeathsig", "KILL"];
    const store = ["store", "--file", this.file, "--socket", `${this.dataDir}/store.sock`, "--listen", `${this.port}`];
    const [first, before] = this.#inNetns();
    const child = new Deno.Command("setpriv", {
      // The shell appends to the log and becomes the store: its pid is the store's.
      args: [
        ...die,
        "--",
        first,
        ...before,
        "-c",
        `exec "$@" 2>>${this.dataDir}/store.log`,
        "sh",
        ...program,
        ...store,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    let ended = false;
    child.status.then(() => ended = true);
    await wait("tortie store to answer", async () => {
      if (ended) return true;
      return await this.etcdctl("member", "list", "-w", "json");
    }, { deadlineMs: 20_000, everyMs: 30 }).catch((error) => {
      throw new Error(`${error.message}\n${this.log()}`);
    });
    if (ended) throw new Error(`tortie store ended by itself:\n${this.log()}`);
  }

  async compact(revision?: bigint): Promise<void> {
    const at = revision ?? BigInt(JSON.parse(await this.etcdctl("get", "x", "-w", "json")).header.revision);
    await this.etcdctl("compact", String(at));
  }

  async etcdctl(...args: string[]): Promise<string> {
    const all = ["--endpoints", this.socketEndpoint, "--command-timeout", "5s", ...args];
    return await runOk("etcdctl", all, { env: { ETCDCTL_API: "3" }, timeoutMs: 15_000, maxOutputBytes: 1 << 30 });
  }

  async dump(prefix = "/"): Promise<Map<string, string>> {
    return valuesOf(await this.etcdctl("get", "--prefix", prefix, "-w", "json"));
  }

  log(): string {
    try {
      return Deno.readTextFileSync(`${this.dataDir}/store.log`);
    } catch {
      return "(no log)";
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.#options.dataDir !== undefined) return;
    await Deno.remove(this.dataDir, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }

  #inNetns(): [string, string[]] {
    const { netns } = this.#options;
    return netns ? ["nsenter", [`--net=/run/netns/${netns}`, "sh"]] : ["sh", []];
  }
}
