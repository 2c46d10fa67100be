import { run, runOk, RunOptions, RunResult } from "../../lib/process.ts";
import { uniqueSuffix } from "./port.ts";

/** A network namespace of a test. It goes with the scope, with every process that was left in it. */
export interface Namespace extends AsyncDisposable {
  /** Name as `ip netns` shows it. */
  readonly name: string;
  /** `/run/netns/<name>`, what CNI_NETNS would be. */
  readonly path: string;
  /** Runs a program in it. */
  run(program: string, args: string[], options?: RunOptions): Promise<RunResult>;
  /** run() that throws with the program's own words when it fails. Answers its output. */
  runOk(program: string, args: string[], options?: RunOptions): Promise<string>;
  /** `ip <words>` in it: `ns.ip("link set lo up")`. */
  ip(words: string): Promise<string>;
  /** `ip -j <words>`, parsed. */
  ipJson<T = Record<string, unknown>[]>(words: string): Promise<T>;
}

/** Makes a namespace `<prefix>-<random>` with its loopback up. */
export async function makeNamespace(prefix: string): Promise<Namespace> {
  const name = `${prefix}-${uniqueSuffix()}`;
  await runOk("ip", ["netns", "add", name]);
  const space = new NamedNamespace(name);
  await space.ip("link set lo up");
  return space;
}

/**
 * Connects two namespaces by a veth pair, both ends up.
 * @param a,b "eth0" in that namespace, with the addresses (CIDR) it gets.
 */
export async function connect(
  a: { in: Namespace; name: string; addresses?: string[] },
  b: { in: Namespace; name: string; addresses?: string[] },
): Promise<void> {
  await a.in.ip(`link add ${a.name} type veth peer name ${b.name} netns ${b.in.name}`);
  for (const end of [a, b]) {
    for (const address of end.addresses ?? []) {
      await end.in.ip(`addr add ${address} dev ${end.name}${address.includes(":") ? " nodad" : ""}`);
    }
    await end.in.ip(`link set ${end.name} up`);
  }
}

class NamedNamespace implements Namespace {
  readonly path: string;
  constructor(readonly name: string) {
    this.path = `/run/netns/${name}`;
  }

  run(program: string, args: string[], options?: RunOptions): Promise<RunResult> {
    return run("nsenter", [`--net=${this.path}`, program, ...args], options);
  }

  runOk(program: string, args: string[], options?: RunOptions): Promise<string> {
    return runOk("nsenter", [`--net=${this.path}`, program, ...args], options);
  }

  ip(words: string): Promise<string> {
    return runOk("ip", ["-n", this.name, ...words.split(" ").filter((w) => w !== "")]);
  }

  async ipJson<T>(words: string): Promise<T> {
    return JSON.parse((await this.ip(`-j ${words}`)).trim() || "[]") as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of (await runOk("ip", ["netns", "pids", this.name])).split("\n").filter((p) => p !== "")) {
      try {
        Deno.kill(Number(pid), "SIGKILL");
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    await runOk("ip", ["netns", "delete", this.name]);
  }
}
