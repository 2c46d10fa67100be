import type { Variant } from "../../kernel/netfilter/chain.ts";
import { enterNetns, openNetns } from "../../kernel/netns.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import type { Store } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { runOk } from "../../lib/process.ts";
import { unixRequest } from "../../lib/unix_http.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { makeNamespace } from "../lab/namespaces.ts";
import { here, interfaceOf, type Stored, surroundings } from "./policy_objects.ts";
import { StartCounter } from "./process_cost.ts";

/** Objects in one transaction of etcd. */
const atOnce = 100;

/** A host with pods' interfaces, its etcd, and an agent that is started and stopped. The thread is in its namespace. */
export class PolicyHost implements AsyncDisposable {
  private constructor(
    readonly world: AgentWorld,
    readonly store: Store,
    readonly variant: Variant,
    readonly starts: StartCounter,
    /** Namespace with the pods' sides, `p<i>`. */
    readonly podsName: string,
    private readonly stack: AsyncDisposableStack,
  ) {}

  /** @param interfaces so many veth pairs are made, whose far ends are in another namespace. */
  static async make(variant: Variant, interfaces: number): Promise<PolicyHost> {
    const stack = new AsyncDisposableStack();
    RtSocket.open()[Symbol.dispose]();
    const world = stack.use(await makeAgentWorld("bp"));
    const pods = stack.use(await makeNamespace("bp-pods"));
    // Without a default route the kernel answers no pod that asks for its gateway.
    await world.host.ip("addr add 192.0.2.1/24 dev eth0");
    await world.host.ip("route add default via 192.0.2.2 dev eth0");
    const netns = openNetns(world.host.path);
    stack.defer(enterNetns(netns));
    netns[Symbol.dispose]();
    const links = Array.from(
      { length: interfaces },
      (_, i) => `link add ${interfaceOf(i)} type veth peer name p${i} netns ${pods.name}`,
    );
    await runOk("ip", ["-batch", "-"], { stdin: links.join("\n"), timeoutMs: 300_000 });
    const options = { endpoints: [world.etcd.endpoint], deadlineMs: 30_000 };
    const store = stack.use(openEtcd(options, { clock: systemClock, log: silentLog }));
    await putCluster(world, here, [{ name: "pods", cidr: "10.64.0.0/10", blockSize: 26 }]);
    const starts = await StartCounter.make(`${world.dir}/counted`);
    const host = new PolicyHost(world, store, variant, starts, pods.name, stack);
    await host.put(surroundings());
    return host;
  }

  /** Writes objects, many in one transaction. */
  async put(objects: Stored[]): Promise<void> {
    for (let i = 0; i < objects.length; i += atOnce) {
      const write = objects.slice(i, i + atOnce).map(({ key, resource }) => ({
        put: key,
        value: JSON.stringify(resource),
      }));
      await this.store.txn({ compare: [], write });
    }
  }

  /** Deletes objects. */
  async remove(objects: Stored[]): Promise<void> {
    for (let i = 0; i < objects.length; i += atOnce) {
      await this.store.txn({ compare: [], write: objects.slice(i, i + atOnce).map(({ key }) => ({ delete: key })) });
    }
  }

  /** Starts the agent and waits until everything is in force. @returns milliseconds that it took. */
  async start(options: { counted?: boolean } = {}): Promise<number> {
    const env = { FELIX_IPTABLESBACKEND: this.variant, ...(options.counted ? { PATH: this.starts.path } : {}) };
    const began = performance.now();
    await this.world.start({ node: here, env, doNotWait: true });
    for (;;) {
      if (await this.#isReady()) return performance.now() - began;
      if (hasEnded(this.world.pid)) throw new Error(`the agent ended:\n${this.world.log()}`);
      if (performance.now() - began > 300_000) throw new Error(`the agent is not ready:\n${this.world.log()}`);
      await systemClock.sleep(5);
    }
  }

  async #isReady(): Promise<boolean> {
    try {
      const request = { method: "GET", target: "/v1/status", timeoutMs: 5_000 };
      const { status, body } = await unixRequest(this.world.socket, request);
      return status === 200 && JSON.parse(body).policy?.inSync === true;
    } catch {
      return false; // nobody listens yet
    }
  }

  /** Rules of a table in the kernel. */
  async rules(table = "filter", family: "" | "6" = ""): Promise<string[]> {
    const program = `ip${family}tables-${this.variant}-save`;
    const text = await runOk(program, ["-t", table], { maxOutputBytes: 64 << 20, timeoutMs: 60_000 });
    return text.split("\n").filter((line) => line.startsWith("-A"));
  }

  /** Waits until the table's rules say so. */
  async settled(what: string, look: (rules: string[]) => boolean): Promise<void> {
    for (let i = 0; !look(await this.rules()); i++) {
      if (i === 100) throw new Error(`${what} is not in the kernel`);
      await systemClock.sleep(200);
    }
  }

  /** Takes away every rule and set, as an empty kernel has none. The agent must be stopped. */
  async emptyKernel(): Promise<void> {
    for (const family of ["", "6"]) {
      for (const table of ["raw", "mangle", "nat", "filter"]) {
        await runOk(`ip${family}tables-${this.variant}-restore`, [], { stdin: `*${table}\nCOMMIT\n` });
      }
    }
    await runOk("ipset", ["destroy"], { timeoutMs: 60_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

/** True for a process that is gone, or whose end nobody has asked for. */
function hasEnded(pid: number): boolean {
  try {
    return / [ZX] /.test(Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\)/s, ""));
  } catch {
    return true;
  }
}
