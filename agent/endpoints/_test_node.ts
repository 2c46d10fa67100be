import type { Clock } from "../../lib/clock.ts";
import { formatIp, type Ip } from "../../lib/ip.ts";
import { silentLog } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Mirror } from "../../datastore/mirror.ts";
import { prefixRange } from "../../datastore/store.ts";
import { Allocator } from "../../ipam/commit.ts";
import { type Attachment, attachmentId } from "./attachment.ts";
import type { JournalEntry, OpenJournal } from "./journal.ts";
import { Lifecycle, type LifecycleDeps } from "./lifecycle.ts";
import type { AddRequest, AddStep } from "./request.ts";
import type { ConnectRequest, Wiring } from "./wiring.ts";

/** A clock that runs a hundred times as fast as the machine's: seconds of patience are milliseconds of a test. */
export const fastClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now() * 100,
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = setTimeout(resolve, ms / 100);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason);
      }, { once: true });
    }),
};

/** Pairs in memory; the kernel's edge of a test. `refuse` makes the next connect() fail. */
export class TestWiring implements Pick<Wiring, "connect" | "disconnect" | "inspect"> {
  readonly pairs = new Map<string, ConnectRequest & { mac: string }>();
  refuse = 0;

  connect(request: ConnectRequest): Promise<{ mac: string; undo(): Promise<void> }> {
    const { hostInterface, netns, interfaceName } = request;
    const refusal = (code: "kernel" | "exists", what: string) =>
      Promise.reject(new Problem({ code, what, where: hostInterface }));
    if (this.refuse > 0) {
      this.refuse--;
      return refusal("kernel", "refused for the test");
    }
    const inPod = this.inPod(netns, interfaceName);
    if (inPod && inPod.hostInterface !== hostInterface) return refusal("exists", `pod has ${interfaceName}`);
    if (this.pairs.has(hostInterface) && !request.replaceHostInterface) return refusal("exists", "host name is taken");
    const pair = { ...request, mac: request.mac! };
    this.pairs.set(hostInterface, pair);
    const undo = () => {
      if (this.pairs.get(hostInterface) === pair) this.pairs.delete(hostInterface);
      return Promise.resolve();
    };
    return Promise.resolve({ mac: pair.mac, undo });
  }

  disconnect({ netns = "", interfaceName, hostInterface }: Parameters<Wiring["disconnect"]>[0]): Promise<void> {
    const pair = this.inPod(netns, interfaceName);
    if (pair) this.pairs.delete(pair.hostInterface);
    if (hostInterface) this.pairs.delete(hostInterface);
    return Promise.resolve();
  }

  inspect({ netns, interfaceName, hostInterface }: Parameters<Wiring["inspect"]>[0]): ReturnType<Wiring["inspect"]> {
    const side = (pair: (ConnectRequest & { mac: string }) | undefined, isHost: boolean) =>
      pair && {
        ...{ index: 1, kind: "veth", mac: pair.mac, mtuBytes: 1500, up: true },
        addresses: isHost ? [] : pair.addresses.map((ip) => ({ ip, len: ip.v === 4 ? 32 : 128 })),
        routes: pair.addresses.map((ip) => ({
          dst: { ...ip, len: ip.v === 4 ? 32 : 128 },
          via: isHost ? undefined : ip,
        })),
      };
    const host = this.pairs.get(hostInterface), pod = this.inPod(netns, interfaceName);
    const found = { netnsExists: true, pod: side(pod, false), host: side(host, true), paired: host === pod };
    return Promise.resolve(found);
  }

  inPod(netns: string, interfaceName: string): (ConnectRequest & { mac: string }) | undefined {
    return [...this.pairs.values()].find((p) => p.netns === netns && p.interfaceName === interfaceName);
  }
}

/** The journal in memory; it outlives a Lifecycle as the files do. */
export class TestJournal implements OpenJournal {
  readonly held = new Map<string, JournalEntry>();
  scan = () => Promise.resolve();
  entries = () => [...this.held.values()];
  get = (a: Attachment) => this.held.get(attachmentId(a));
  begin = (entry: Omit<JournalEntry, "because" | "time">) => this.#put({ ...entry, because: "add", time: "" });
  mustGo = (entry: Omit<JournalEntry, "because" | "time">) => this.#put({ ...entry, because: "delete", time: "" });

  drop(a: Attachment): Promise<void> {
    this.held.delete(attachmentId(a));
    return Promise.resolve();
  }

  #put(entry: JournalEntry): Promise<void> {
    this.held.set(attachmentId(entry.attachment), entry);
    return Promise.resolve();
  }
}

/** A node with a Lifecycle over a store in memory. */
export class TestNode implements AsyncDisposable {
  readonly wiring = new TestWiring();
  readonly journal = new TestJournal();
  readonly store = new MemoryStore({ clock: fastClock });
  readonly steps: AddStep[] = [];
  /** What the dataplane answers. */
  enforced: () => Promise<void> = () => Promise.resolve();
  lifecycle!: Lifecycle;
  mirror!: Mirror;
  #stop = new AbortController();
  #allocator!: Allocator;
  #running!: Promise<void>;

  /** @param blockSize of the pool 10.9.0.0/28. */
  static async start(options: { blockSize?: number; step?: LifecycleDeps["step"] } = {}): Promise<TestNode> {
    const node = new TestNode();
    await node.#put("clusterinformations/default", { kind: "ClusterInformation", spec: { datastoreReady: true } });
    await node.#put("nodes/n1", { kind: "Node", spec: {} });
    const spec = { cidr: "10.9.0.0/28", blockSize: options.blockSize ?? 30, allowedUses: ["Workload"] };
    await node.#put("ippools/p", { kind: "IPPool", spec });
    await node.begin(options.step);
    return node;
  }

  /** Starts the agent's part, as at a start of the process. */
  async begin(step?: LifecycleDeps["step"]): Promise<void> {
    this.#stop = new AbortController();
    const { store, journal, wiring } = this;
    const common = { store, clock: fastClock, log: silentLog };
    this.mirror = Mirror.start(common);
    this.#allocator = new Allocator({ ...common, reader: () => this.mirror, random: Math.random });
    let n = 0;
    const random = { mac: () => `02:00:00:00:${Math.floor(++n / 256)}:${n % 256}`, uuid: () => crypto.randomUUID() };
    const leases = { add: () => Promise.resolve(), remove: () => Promise.resolve(), scan: () => Promise.resolve() };
    const status = () => ({ inSync: true, endpoints: 0, interfaces: 0, ports: [] });
    this.lifecycle = new Lifecycle({
      ...{ ...common, node: "n1", mirror: this.mirror, allocator: this.#allocator, wiring, journal, leases, random },
      dataplane: { enforced: () => this.enforced(), status },
      step: (name, attachment) => {
        this.steps.push(name);
        step?.(name, attachment);
      },
    });
    await this.mirror.ready();
    await this.lifecycle.recover();
    this.#running = this.lifecycle.run(this.#stop.signal);
  }

  /** Ends it. What is under way goes on against the same store, as etcd goes on when an agent dies. */
  async end(): Promise<void> {
    this.#stop.abort(new Error("the test node ends"));
    await this.#running;
    await this.mirror[Symbol.asyncDispose]();
  }

  /** Everything that is held: addresses with their handles, handles, endpoints, links, journal. */
  async held(): Promise<
    { addresses: string[]; handles: string[]; endpoints: string[]; links: string[]; journal: number }
  > {
    const { values } = await this.store.read([prefixRange("/calico/")]);
    const keys = [...values.values()];
    const blocks = keys.filter((kv) => kv.key.includes("/assignment/")).map((kv) => JSON.parse(kv.value));
    const addresses = blocks.flatMap((b) =>
      b.allocations.flatMap((a: number | null) => (a === null ? [] : [b.attributes[a].handle_id as string]))
    );
    const last = (part: string) => keys.filter((kv) => kv.key.includes(part)).map((kv) => kv.key.split("/").pop()!);
    return {
      ...{ addresses, handles: last("/handle/"), endpoints: last("/workloadendpoints/") },
      links: [...this.wiring.pairs.keys()],
      journal: this.journal.held.size,
    };
  }

  async #put(path: string, value: { kind: string; spec: unknown }): Promise<void> {
    const name = path.split("/").pop()!;
    const text = JSON.stringify({ apiVersion: "projectcalico.org/v3", metadata: { name }, ...value });
    const key = `/calico/resources/v3/projectcalico.org/${path}`;
    await this.store.txn({ compare: [], write: [{ put: key, value: text }] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.#allocator[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

/** A request for a container's endpoint; pods `web` share host interface and key over their sandboxes. */
export function addRequest(containerId: string, more: Partial<AddRequest> & { pod?: string } = {}): AddRequest {
  const { pod, ...rest } = more;
  const name = pod ? `n1-k8s-${pod}-eth0` : `n1-cni-${containerId}-eth0`;
  const spec = pod
    ? { orchestrator: "k8s", pod, interfaceName: `cali${pod}` }
    : { orchestrator: "cni", interfaceName: `cali${containerId}` };
  return {
    attachment: { network: "net", containerId, interfaceName: "eth0" },
    netns: `/ns/${containerId}`,
    endpoint: {
      ...{ kind: "WorkloadEndpoint", apiVersion: "projectcalico.org/v3", metadata: { name, namespace: "default" } },
      spec: { ...spec, node: "n1", endpoint: "eth0", profiles: ["net"] },
    },
    addresses: { from: "ipam", v4: true, v6: false },
    ...{ attributes: { node: "n1" }, floatingIps: [], ipForwarding: false },
    ...rest,
  };
}

/** The endpoint's key of a request. */
export const keyOf = (request: AddRequest): string =>
  `/calico/resources/v3/projectcalico.org/workloadendpoints/default/${request.endpoint.metadata.name}`;

/** Texts of addresses. */
export const texts = (list: { ip: Ip }[]): string[] => list.map(({ ip }) => formatIp(ip));
