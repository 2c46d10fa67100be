import assert from "node:assert/strict";
import { Flood } from "../flood/flood.ts";
import { type Flow } from "../flood/flow.ts";
import { judge } from "../flood/judge.ts";
import { openWires, type Wires } from "../flood/wires.ts";
import { formatIp } from "../../lib/ip.ts";
import { type Felix, felixBinary, startFelix } from "../lab/felix.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { AgentNetwork } from "../packets/agent_network.ts";
import { far, takeoverObjects, takeoverPods } from "./_felix_objects.ts";
import {
  type Backend,
  differences,
  loadRules,
  readRules,
  recordedRules,
  recordRules,
  type Rules,
} from "./_felix_rules.ts";
import { type Talk, talk } from "./_talk.ts";

const node = "alder";
const ports = { tcp: 7777, host: 5555, hostDenied: 5556, untracked: 4444, untrackedDenied: 4445 };

/**
 * Packets that never stop: "+" must always arrive, "-" never. Each is a connection's first packet, but for those with a
 * source port.
 */
function flowsOf({ pods, outside }: AgentNetwork): Flow[] {
  const [c, s, b, o] = pods.map((p) => ({ 4: formatIp(p.home[4]!), 6: formatIp(p.home[6]!) }));
  const away = formatIp(outside.home[4]!), host = "192.0.2.1", host6 = "2001:db8::1";
  const flows: Flow[] = [];
  const add = (name: string, src: string, dst: string, dstPort: number, more: Partial<Flow> = {}) => {
    flows.push({ name, from: name.slice(1).split(">")[0]!, src, dst, protocol: "udp", dstPort, ...more });
  };
  const tcp: Partial<Flow> = { protocol: "tcp" };
  add("+client>server web", c![4], s![4], 80);
  add("+client>server web v6", c![6], s![6], 80);
  add("+client>server established", c![4], s![4], 80, { srcPort: 7000 });
  add("+server>client answers", s![4], c![4], 7000, { srcPort: 80 });
  add("+client>server named port", c![4], s![4], 8080, tcp);
  add("+client>server named port v6", c![6], s![6], 8080, tcp);
  add("+server>client by a set", s![4], c![4], 1234);
  add("+blue>server named port of a namespace", b![4], s![4], 53);
  add("+client>blue by Kubernetes policy", c![4], b![4], 81, tcp);
  add("+client>outside with NAT", c![4], away, 53);
  add("+client>outside v6", c![6], formatIp(outside.home[6]!), 53);
  add("+outside>server friend", far.friend, s![4], 200);
  add("+outside>server friend tcp", far.friend, s![4], 80, tcp);
  add("+outside>blue block", far.friend, b![4], 9);
  add("+outside>host", away, host, ports.host);
  add("+outside>host untracked", away, host, ports.untracked);
  add("+outside>host v6", formatIp(outside.home[6]!), host6, ports.host);
  add("-client>server other", c![4], s![4], 99);
  add("-client>server other v6", c![6], s![6], 99);
  add("-client>server twenty ports", c![4], s![4], 2000, tcp);
  add("-other>server web", o![4], s![4], 80);
  add("-other>blue by Kubernetes policy", o![4], b![4], 81, tcp);
  add("-client>outside tier", c![4], away, 666);
  add("-client>outside group", c![4], away, 667);
  add("-client>host", c![4], host, ports.host);
  add("-client>blue spoofed", far.friend, b![4], 9);
  add("-outside>server not on this port", far.friend, s![4], 150);
  add("-outside>server excepted", "198.51.100.200", s![4], 80, tcp);
  add("-outside>server bad", far.bad, s![4], 80);
  add("-outside>server stranger", far.stranger, s![4], 80);
  add("-outside>blue excepted", "198.51.100.200", b![4], 9);
  add("-outside>blue forwarded", far.friend, b![4], 668);
  add("-outside>host policy", away, host, ports.hostDenied);
  add("-outside>host untracked", away, host, ports.untrackedDenied);
  return flows;
}

/** Nobody answers, so that every packet stays a first one; but the connection talks. */
async function silence(space: Namespace): Promise<void> {
  for (const program of ["iptables-legacy", "ip6tables-legacy"]) {
    const append = (words: string) => space.runOk(program, `-t raw -A PREROUTING ${words}`.split(" "));
    for (const side of ["dport", "sport"]) await append(`-p tcp --${side} ${ports.tcp} -j ACCEPT`);
    for (const protocol of ["udp", "tcp"]) await append(`-p ${protocol} -j DROP`);
  }
}

/** Sockets of all places, the host's behind its own INPUT. */
function openAll({ world, spaces }: AgentNetwork, made: DisposableStack): Record<string, Wires> {
  const open = (space: Namespace, port?: number) => made.use(openWires(space.path, port));
  const [client, server, blue, other] = spaces.pods;
  const hostPorts = [ports.host, ports.hostDenied, ports.untracked, ports.untrackedDenied];
  return {
    ...{ client: open(client!), server: open(server!), blue: open(blue!), other: open(other!) },
    outside: open(spaces.outside),
    ...Object.fromEntries(hostPorts.map((port) => [`host ${port}`, open(world.host, port)])),
  };
}

/** A host that Felix governs, with traffic. */
class Scene implements AsyncDisposable {
  #felix: Felix | undefined;
  readonly #first: number;
  /** Ticks that are Felix's own affair. */
  readonly #spared = new Set<number>();
  readonly said: string[] = [];
  readonly #began = performance.now();

  private constructor(
    readonly network: AgentNetwork,
    readonly backend: Backend,
    readonly flood: Flood,
    readonly talk: Talk,
    private readonly wires: Record<string, Wires>,
    private readonly stack: AsyncDisposableStack,
    felix: Felix | undefined,
  ) {
    this.#felix = felix;
    this.#first = flood.tick + 1;
  }

  static async make(backend: Backend): Promise<Scene> {
    await using made = new AsyncDisposableStack();
    const network = made.use(await AgentNetwork.make("tk", takeoverPods));
    const objects = takeoverObjects.filter((r) => r.kind !== "FelixConfiguration");
    await network.commit([...objects, configuration(backend)]);
    await network.world.stop("SIGKILL");
    await wipe(network.world.host);
    const felix = felixBinary ? await begin(network, backend) : undefined;
    if (felix && Deno.env.has("FELIX_RECORD")) recordRules(backend, await readRules(network.world.host, backend));
    if (!felix) {
      const rules = recordedRules(backend);
      checkRecording(network, rules);
      await loadRules(network.world.host, backend, { ...rules, ipset: await ofThisHost(network, rules.ipset) });
    }
    for (const space of [...network.spaces.pods, network.spaces.outside]) await silence(space);
    const [client, server] = network.spaces.pods;
    const connection = made.use(await talk(client!, server!, formatIp(network.pods[1]!.home[4]!), ports.tcp));
    const sockets = made.use(new DisposableStack()), wires = openAll(network, sockets);
    const canaries = ["+client>server web", "+outside>blue block", "+client>outside with NAT"];
    const flood = made.use(new Flood({ flows: flowsOf(network), wires, canaries, tickMs: 2 }));
    await flood.forTicks(60);
    return new Scene(network, backend, flood, connection, wires, made.move(), felix);
  }

  rules = (): Promise<Rules> => readRules(this.network.world.host, this.backend);

  tell(what: string): void {
    this.said.push(`${((performance.now() - this.#began) / 1000).toFixed(1).padStart(5)} s  ${what}`);
  }

  /** Without a Felix that runs there is none to end. */
  async endFelix(signal: Deno.Signal): Promise<void> {
    await this.#felix?.stop(signal);
    this.#felix = undefined;
    this.tell(felixBinary ? `Felix ended by ${signal}` : "(recorded rules of a Felix that is gone)");
    await this.flood.forTicks(100);
  }

  async startFelix(): Promise<void> {
    const from = this.flood.tick;
    this.#felix = await begin(this.network, this.backend);
    this.tell("Felix is ready");
    if (this.backend === "nftables") this.#spare(from, this.flood.tick);
    await this.flood.forTicks(150);
  }

  /** Felix removes our rules in iptables some milliseconds before its own in nftables hold. */
  #spare(from: number, to: number): void {
    for (let tick = from; tick <= to; tick++) this.#spared.add(tick);
    const denied = this.flood.flows.filter(({ name }) => name.startsWith("-"));
    const passed = denied.reduce((n, { name }) => n + this.flood.fates(name, from, to).filter((f) => f >= 2).length, 0);
    this.tell(`while Felix began, ${passed} denied packets passed`);
  }

  async startOurs(): Promise<void> {
    const { world } = this.network, variant = this.backend === "nft" ? "nft" : "legacy";
    await world.start({ node, env: { FELIX_IPTABLESBACKEND: variant } });
    await wait("policy to be in force", () => world.log().includes('"policy is in force"'));
    await wait("what Felix left elsewhere to be gone", async () => (await this.rules()).nft === "");
    this.tell(`our agent is ready${world.log().includes("of another dataplane are removed") ? ", and has swept" : ""}`);
    await this.flood.forTicks(150);
  }

  async endOurs(signal: Deno.Signal): Promise<void> {
    await this.network.world.stop(signal);
    this.tell(`our agent ended by ${signal}`);
    await this.flood.forTicks(100);
  }

  /** What went otherwise than policy says, since the scene began. */
  async wrong(): Promise<string[]> {
    await this.flood.stop();
    const { flood } = this, last = flood.tick - 10, first = this.#first;
    const ticks = Array.from({ length: last - first + 1 }, (_, i) => first + i).filter((t) => !this.#spared.has(t));
    const sentAt = ticks.map((tick) => flood.sentAt(tick));
    let sent = 0;
    const found = flood.flows.flatMap(({ name }) => {
      const before = name.startsWith("+");
      const all = flood.fates(name, first, last), fates = ticks.map((tick) => all[tick - first]!);
      const finding = judge({ fates, sentAt, before }, before ? "passes" : "denied", 60_000);
      sent += finding.sent;
      return finding.wrong.map((why) => `${name}: ${why}`);
    });
    await this.talk.end();
    const again = await this.talk.retransmitted();
    this.tell(
      `${sent} packets of ${flood.flows.length} flows; ${this.talk.echoed} lines over TCP, ${again} sent again`,
    );
    if (again > 0) found.push(`${again} TCP segments had to be sent again`);
    const lost = Object.entries(this.wires).filter(([, w]) => w.lost() > 0).map(([name]) => name);
    if (lost.length > 0) found.push(`the flood did not read all that came to ${lost.join()}`);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#felix?.stop("SIGKILL");
    await this.stack.disposeAsync();
  }
}

const begin = ({ world }: AgentNetwork, backend: Backend): Promise<Felix> =>
  startFelix(world, felixBinary!, node, {
    ...(backend === "nftables" ? { FELIX_NFTABLESMODE: "Enabled" } : { FELIX_IPTABLESBACKEND: backend }),
  });

const configuration = (backend: Backend) => {
  const one = takeoverObjects.find((r) => r.kind === "FelixConfiguration")!;
  const iptablesBackend = backend === "nft" ? "NFT" : "Legacy";
  return { ...one, spec: { ...one.spec, iptablesBackend, nftablesMode: backend === "nftables" ? "Enabled" : "Auto" } };
};

async function wipe(host: Namespace): Promise<void> {
  for (const program of ["iptables-legacy", "ip6tables-legacy"]) {
    for (const table of ["raw", "mangle", "nat", "filter"]) {
      for (const word of ["-F", "-X"]) await host.runOk(program, ["-t", table, word]);
    }
  }
  await host.runOk("nft", ["flush", "ruleset"]);
  await host.runOk("ipset", ["destroy"]);
}

/** The recording speaks of interfaces and addresses; they come out the same as long as names and pools do. */
function checkRecording({ pods, endpoints }: AgentNetwork, rules: Rules): void {
  const words = [...pods.map((p) => formatIp(p.home[4]!)), ...endpoints.map((e) => String(e.spec.interfaceName))];
  const text = Object.values(rules).join("");
  const missing = words.filter((word) => !text.includes(word));
  assert.deepEqual(missing, [], "the recording fits another world: make it anew, see tests/golden/felix/README.md");
}

/** The host's link-local address comes from its MAC, which is another one each time. */
async function ofThisHost({ world }: AgentNetwork, ipset: string): Promise<string> {
  const address = /inet6 (fe80:[^/]+)/.exec(await world.host.ip("-6 addr show dev eth0 scope link"))![1]!;
  return ipset.replace(/^(add cali60this-host )fe80:\S+$/m, `$1${address}`);
}

/** Where we differ from Felix on purpose, or where it says less than nothing. */
const known = [
  // A member that a wider one covers says nothing; Felix leaves it out, as nftables would refuse it.
  /^\+ ipset add cali40s:\S+ 198\.51\.100\.0\/25$/,
  // The first address of the loopback network is nobody's: Felix takes the local route's for one.
  /^- ipset add cali40this-host 127\.0\.0\.0$/,
  // Felix keeps the host from answering duplicate-address probes of pods; here a route stands before one can come.
  /^- nft /,
  // Without neighbour discovery even a host's failsafe ports are out of reach.
  /^\+ ip6tables -A cali-failsafe-(in|out) -p ipv6-icmp .* --icmpv6-type 13[3-6] -j ACCEPT$/,
];

/** Waits until the rules are those, but for what is known; both remove what is left over little by little. */
async function becomes(scene: Scene, wanted: Rules, known: readonly RegExp[]): Promise<void> {
  let found: string[] = [];
  await wait("the rules to be right", async () => {
    found = differences(wanted, await scene.rules()).filter((line) => !known.some((pattern) => pattern.test(line)));
    return found.length === 0;
  }, { everyMs: 100 }).catch(() => assert.deepEqual(found, []));
}

for (const backend of ["legacy", "nft", "nftables"] as const) {
  Deno.test({
    name: `a host of Felix's (${backend}) is taken over with traffic running${felixBinary ? ", and given back" : ""}`,
    // The flood's thread ends by itself; its end is told a moment later.
    ...{ sanitizeOps: false, sanitizeResources: false },
    async fn() {
      await using scene = await Scene.make(backend);
      const before = await scene.rules();
      scene.tell(
        `Felix's: ${before.iptables.split("\n").length} lines of IPv4 rules, ${before.nft.split("\n").length} of nft`,
      );
      await scene.endFelix("SIGKILL");
      await scene.startOurs();
      if (backend !== "nftables") await becomes(scene, before, known);
      const taken = await scene.rules();
      assert.equal(taken.nft, "", "tables of Felix are left");
      if (felixBinary) {
        await scene.endOurs("SIGKILL");
        await scene.startFelix();
        await becomes(scene, before, []);
        await scene.endFelix("SIGTERM");
        await scene.startOurs();
        await becomes(scene, taken, []);
        await scene.endOurs("SIGTERM");
      }
      const wrong = await scene.wrong();
      console.log(scene.said.join("\n"));
      assert.deepEqual(wrong, []);
    },
  });
}
