import { systemClock } from "../../lib/clock.ts";
import { ask } from "../../routing/bird_control.ts";
import { type BirdInput, type CaseRoute, configurationOf } from "../cases/runners/_bird_input.ts";
import { type Code, type Configuration, parseConfiguration, type Statement } from "../cases/runners/_bird_language.ts";
import { judge, type Route } from "../cases/runners/_bird_machine.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

/** A session of the configuration under test. */
interface Session {
  name: string;
  v: "4" | "6";
  ip: string;
  port?: number;
  as: number;
  localAs: number;
  ttlHops?: number;
  passive: boolean;
  password?: string;
  client: boolean;
  allowLocalAs: number;
  importCode: Code[];
  exportCode: Code[];
}

/** What a BIRD holds, read from `show route all`. */
interface Held {
  route: Route;
  protocol: string;
  primary: boolean;
  /** The kernel did not take it: a route of somebody else with the same metric stands there. */
  refused: boolean;
  preference: number;
}

/** What was compared: sessions, routes seen by peers, kernel routes. */
export interface Compared {
  sessions: number;
  exported: number;
  imported: number;
  kernel: number;
}

/**
 * Runs the configuration of one case on a real BIRD in a namespace, with a real BIRD for each peer, the case's kernel
 * routes in its kernel, and the case's BGP routes told by the peers. Then what the peers received, what was imported and
 * what stands in the kernel is compared with what the reader of the text (`_bird_machine.ts`) says for the routes that
 * BIRD really has, plus BGP's own rules (best route only, not back to its sender, no iBGP route to iBGP but by reflection).
 * @throws Error that shows the first difference.
 */
export async function compareWithBird(id: string, input: BirdInput): Promise<Compared> {
  await using world = await World.build(id, input);
  return await world.compare();
}

class World implements AsyncDisposable {
  #children: Namespace[] = [];
  #wire!: Namespace;
  #self!: Namespace;
  #dir: string;
  #configuration: Configuration;
  #sessions: Session[];
  readonly routes: CaseRoute[];

  private constructor(id: string, readonly input: BirdInput) {
    this.routes = input.routes ?? [];
    this.#dir = `/dev/shm/h6-world-${id}-${crypto.randomUUID().slice(0, 6)}`;
    this.#configuration = parseConfiguration(configurationOf(input));
    this.#sessions = sessionsOf(this.#configuration).filter((s) => onLink(s.ip));
  }

  static async build(id: string, input: BirdInput): Promise<World> {
    const world = new World(id, input);
    try {
      await world.#start();
      return world;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const space of this.#children) await space[Symbol.asyncDispose]();
    await Deno.remove(this.#dir, { recursive: true });
  }

  async #start(): Promise<void> {
    await Deno.mkdir(this.#dir);
    this.#wire = await this.#namespace("w");
    await this.#wire.ip("link add wire0 type bridge");
    await this.#wire.ip("link set wire0 up");
    const node = this.input.datastore[`/calico/resources/v3/projectcalico.org/nodes/${this.input.node}`];
    const bgp = (node as { spec: { bgp: Record<string, string> } }).spec.bgp;
    const own = [bgp.ipv4Address, bgp.ipv6Address].filter((a) => a !== undefined);
    this.#self = await this.#plug(0, own);
    await this.#kernelRoutes();
    for (const [i, session] of this.#sessions.entries()) {
      const space = await this.#plug(i + 1, [`${session.ip}/${session.v === "4" ? 24 : 64}`]);
      const address = own.find((a) => a.includes(":") === (session.v === "6"))!.split("/")[0]!;
      await this.#bird(space, session.name, this.#peerText(session, address, i));
    }
    await this.#bird(this.#self, "self", configurationOf(this.input));
  }

  async #namespace(name: string): Promise<Namespace> {
    const space = await makeNamespace(`h6w${name}`);
    this.#children.push(space);
    return space;
  }

  async #plug(number: number, addresses: string[]): Promise<Namespace> {
    const space = await this.#namespace(String(number));
    await this.#wire.ip(`link add p${number} master wire0 type veth peer name eth0 netns ${space.name}`);
    await this.#wire.ip(`link set p${number} up`);
    for (const address of addresses) {
      await space.ip(`addr add ${address} dev eth0${address.includes(":") ? " nodad" : ""}`);
    }
    await space.ip("link set eth0 up");
    return space;
  }

  async #kernelRoutes(): Promise<void> {
    for (const [i, route] of this.routes.filter((r) => r.from === "kernel").entries()) {
      const device = route.ifname!;
      const there = await this.#self.run("ip", ["link", "show", device]);
      if (there.code !== 0) {
        await this.#self.ip(`link add ${device} type veth peer name peer${i}`);
        await this.#self.ip(`link set ${device} up`);
        await this.#self.ip(`link set peer${i} up`);
      }
      const metric = route.metric ? ` metric ${route.metric}` : "";
      await this.#self.ip(`${family(route.net)} route add ${route.net} dev ${device} proto 80${metric}`);
    }
  }

  async #bird(space: Namespace, name: string, text: string): Promise<void> {
    const base = `${this.#dir}/${name}`;
    await Deno.writeTextFile(`${base}.conf`, text);
    const program = Deno.env.get("BIRD") ?? "bird";
    const result = await space.run(program, ["-c", `${base}.conf`, "-s", `${base}.ctl`, "-P", `${base}.pid`]);
    if (result.code !== 0) throw new Error(`${name}: ${result.stderr}\n${text}`);
  }

  /** The BGP routes that a peer tells: those with its address as next hop; others come from the first internal peer. */
  #told(session: Session): CaseRoute[] {
    const learned = this.routes.filter((r) => r.from === "bgp" && r.net.includes(":") === (session.v === "6"));
    const direct = (r: CaseRoute) => this.#sessions.some((s) => s.ip === r.nextHop);
    const first = this.#sessions.find((s) => s.v === session.v && s.as === s.localAs);
    return learned.filter((r) => (direct(r) ? r.nextHop === session.ip : session === first && onLink(r.nextHop!)));
  }

  #peerText(session: Session, address: string, index: number): string {
    const told = this.#told(session);
    const template = find(this.#configuration, "template", "bgp", `bgp${session.v}`);
    const listen = template.find((s) => s.words.includes("port"))?.words;
    const port = listen ? ` port ${listen[listen.indexOf("port") + 1]}` : "";
    const internal = session.as === session.localAs;
    const filter = told.map((r) => {
      const path = r.asPath ?? [];
      const rest = !internal && path[0] === session.as ? path.slice(1) : path;
      const communities = (r.communities ?? []).map((c) => c.split(":")).map((c) =>
        `bgp_${c.length === 3 ? "large_" : ""}community.add((${c.join(",")}));`
      );
      return [
        `if (net = ${r.net}) then {`,
        ...rest.toReversed().map((as) => `bgp_path.prepend(${as});`),
        ...communities,
        ...(r.localPref !== undefined ? [`bgp_local_pref = ${r.localPref};`] : []),
        ...(r.nextHop !== session.ip ? [`bgp_next_hop = ${r.nextHop};`] : []),
        "accept; }",
      ].join(" ");
    });
    return `router id 198.51.100.${index + 1};
protocol device { }
protocol direct { ipv${session.v}; interface "eth0"; }
protocol static { ipv${session.v}; ${told.map((r) => `route ${r.net} blackhole;`).join(" ")} }
protocol bgp up {
  local ${session.ip}${session.port ? ` port ${session.port}` : ""} as ${session.as};
  neighbor ${address}${port} as ${session.localAs};
  ${session.ttlHops ? `ttl security on; multihop ${session.ttlHops};` : "multihop;"}
  ${session.password ? `password "${session.password}";` : ""}
  connect delay time 1; connect retry time 1; allow local as 9; graceful restart on;
  ipv${session.v} { import all; export filter { ${filter.join("\n")} reject; }; };
}
`;
  }

  async compare(): Promise<Compared> {
    await wait("all sessions", async () => {
      const reply = await ask(`${this.#dir}/self.ctl`, "show protocols", systemClock);
      const up = reply.lines.filter((l) => /\bBGP\b.*Established/.test(l.text)).length;
      if (up < this.#sessions.length) throw new Error(`${up} of ${this.#sessions.length}: ${shown(reply.lines)}`);
      return true;
    }, { deadlineMs: 45_000, everyMs: 200 });
    // Equal three times in a row: a route that comes late is still found.
    let equal = 0;
    return await wait("the same routes as the text says", async () => {
      const compared = await this.#look().catch((error) => {
        equal = 0;
        throw error;
      });
      return ++equal >= 3 ? compared : undefined;
    }, { deadlineMs: 15_000, everyMs: 250 });
  }

  async #look(): Promise<Compared> {
    const held = await holdings(`${this.#dir}/self.ctl`);
    const out: Compared = { sessions: this.#sessions.length, exported: 0, imported: 0, kernel: 0 };
    for (const session of this.#sessions) {
      const got = (await holdings(`${this.#dir}/${session.name}.ctl`)).filter((h) => h.protocol === "up");
      const expected = this.#expectedAt(session, held);
      same(`routes at ${session.name}`, got.map((h) => seen(h.route, session)), expected);
      out.exported += expected.length;
      out.imported += this.#compareImports(session, held);
    }
    out.kernel = await this.#compareKernel(held);
    return out;
  }

  /** What a peer should have got: the best route of each net, after its export filter and BGP's own rules. */
  #expectedAt(session: Session, held: Held[]): unknown[] {
    const internal = session.as === session.localAs;
    return held.filter((h) => h.primary && h.route.net.includes(":") === (session.v === "6")).flatMap((h) => {
      if (h.protocol === session.name) return [];
      const from = this.#sessions.find((s) => s.name === h.protocol);
      const reflected = session.client || from?.client === true;
      const both = from !== undefined && from.as === from.localAs && internal && from.localAs === session.localAs;
      if (both && !reflected) return [];
      const verdict = judge(this.#configuration, session.exportCode, h.route);
      if (!verdict) return [];
      if (!internal) verdict.bgp_path.unshift(session.localAs);
      return [seen(verdict, session)];
    });
  }

  /** The routes that a peer told are there, or not, with the preference that the import filter gives. */
  #compareImports(session: Session, held: Held[]): number {
    const internal = session.as === session.localAs;
    const told = this.#told(session);
    const expected = told.flatMap((r) => {
      const path = r.asPath ?? [];
      const route: Route = {
        ...{ net: r.net, source: "RTS_BGP" as const, ifname: "eth0", bgp_next_hop: r.nextHop },
        bgp_local_pref: internal ? r.localPref ?? 100 : 100,
        bgp_path: internal || path[0] === session.as ? [...path] : [session.as, ...path],
        bgp_community: (r.communities ?? []).filter((c) => c.split(":").length === 2),
        bgp_large_community: (r.communities ?? []).filter((c) => c.split(":").length === 3),
      };
      // BGP's loop detection comes before the filter.
      if (route.bgp_path.filter((as) => as === session.localAs).length > session.allowLocalAs) return [];
      const verdict = judge(this.#configuration, session.importCode, route);
      return verdict ? [`${r.net} ${verdict.preference ?? 100}`] : [];
    });
    const got = held.filter((h) => h.protocol === session.name).map((h) => `${h.route.net} ${h.preference}`);
    same(`routes from ${session.name}`, got, expected);
    return told.length;
  }

  async #compareKernel(held: Held[]): Promise<number> {
    const expected = held.filter((h) =>
      h.primary && !h.refused && ["RTS_BGP", "RTS_STATIC", "RTS_DEVICE"].includes(h.route.source)
    )
      .flatMap((h) => {
        const v = h.route.net.includes(":") ? "6" : "4";
        const filter = this.#configuration.filters.get(`calico_kernel_programming${v}`)!;
        const verdict = judge(this.#configuration, filter, h.route);
        // The kernel has no metric 0 in IPv6.
        return verdict ? [`${h.route.net} ${verdict.krt_metric || (v === "6" ? 1024 : 0)}`] : [];
      });
    const got: string[] = [];
    for (const v of ["-4", "-6"]) {
      const routes = await this.#self.ipJson<{ dst: string; metric?: number }[]>(`${v} route show proto bird`);
      got.push(...routes.map((r) => `${withLength(r.dst)} ${r.metric ?? 0}`));
    }
    same("kernel", got, expected);
    return expected.length;
  }
}

const family = (net: string) => (net.includes(":") ? "-6" : "-4");
const withLength = (net: string) => (net.includes("/") ? net : `${net}/${net.includes(":") ? 128 : 32}`);
const onLink = (ip: string) => ip.startsWith("192.168.10.") || ip.startsWith("fd00:10::");
const shown = (lines: { text: string }[]) => lines.map((l) => l.text).join("\n");
const find = (c: Configuration, ...words: string[]): Statement[] =>
  c.statements.find((s) => words.every((w, i) => s.words[i] === w))?.block ?? [];

/** What a peer can see of a route; the local preference only inside an AS. */
function seen(route: Route, session: Session): unknown {
  return {
    net: route.net,
    path: route.bgp_path,
    communities: [...route.bgp_community, ...route.bgp_large_community].sort(),
    ...(session.as === session.localAs ? { localPref: route.bgp_local_pref } : {}),
  };
}

function same(what: string, got: unknown[], expected: unknown[]): void {
  const text = (list: unknown[]) => list.map((x) => JSON.stringify(x)).sort().join("\n  ");
  if (text(got) !== text(expected)) {
    throw new Error(`${what}: BIRD has\n  ${text(got)}\nthe text says\n  ${text(expected)}`);
  }
}

function sessionsOf(configuration: Configuration): Session[] {
  return configuration.statements.filter((s) => s.words[0] === "protocol" && s.words[1] === "bgp").map((s) => {
    const block = s.block!;
    const v = s.words.at(-1)!.slice(3) as "4" | "6";
    const line = (...words: string[]) => block.find((b) => words.every((w, i) => b.words[i] === w))?.words;
    const after = (words: string[] | undefined, word: string) =>
      words?.includes(word) ? Number(words[words.indexOf(word) + 1]) : undefined;
    const template = find(configuration, "template", "bgp", `bgp${v}`).find((b) => b.words[0] === "local")!.words;
    const neighbor = line("neighbor")!;
    const channel = block.find((b) => b.words[0] === `ipv${v}`)!.block!;
    return {
      name: s.words[2]!,
      v,
      ip: neighbor[1]!,
      port: after(neighbor, "port"),
      as: after(neighbor, "as")!,
      localAs: after(line("local"), "as") ?? after(template, "as")!,
      ttlHops: line("ttl", "security", "on") ? after(line("multihop"), "multihop") : undefined,
      passive: line("passive", "on") !== undefined,
      password: line("password")?.[1],
      client: line("rr", "client") !== undefined,
      allowLocalAs: after(line("allow", "local"), "as") ?? 0,
      importCode: channel.find((b) => b.words[0] === "import")!.code!,
      exportCode: channel.find((b) => b.words[0] === "export")!.code!,
    };
  });
}

/** All routes of a BIRD with their attributes. */
async function holdings(control: string): Promise<Held[]> {
  const reply = await ask(control, "show route all", systemClock);
  const out: Held[] = [];
  let net = "";
  for (const { text } of reply.lines) {
    const head = /^\s?(\S+)?\s+\w+ \[(\S+) [^\]]*\] ([*!])? ?\((\d+)/.exec(text);
    if (head) {
      net = head[1] ?? net;
      const route: Route = { net, source: "RTS_STATIC", bgp_path: [], bgp_community: [], bgp_large_community: [] };
      out.push({
        route,
        protocol: head[2]!,
        primary: head[3] !== undefined,
        refused: head[3] === "!",
        preference: Number(head[4]),
      });
      continue;
    }
    const held = out.at(-1);
    if (held) addAttribute(held.route, text.trim());
  }
  return out;
}

const sources: Record<string, Route["source"]> = {
  inherit: "RTS_INHERIT",
  static: "RTS_STATIC",
  device: "RTS_DEVICE",
  BGP: "RTS_BGP",
};

function addAttribute(route: Route, line: string): void {
  const device = /^(?:via \S+ on|dev) (\S+)/.exec(line)?.[1];
  if (device) route.ifname = device;
  const [, name, value = ""] = /^(Type|[A-Z]\w+\.\w+): ?(.*)$/.exec(line) ?? [];
  const tuples = () => [...value.matchAll(/\(([^)]*)\)/g)].map((m) => m[1]!.replaceAll(/,\s*/g, ":"));
  if (name === "Type") route.source = sources[value.split(" ")[0]!]!;
  else if (name === "Kernel.metric") route.krt_metric = Number(value);
  else if (name === "BGP.local_pref") route.bgp_local_pref = Number(value);
  else if (name === "BGP.next_hop") route.bgp_next_hop = value.split(" ")[0];
  else if (name === "BGP.as_path") route.bgp_path = value.split(" ").filter((w) => w !== "").map(Number);
  else if (name === "BGP.community") route.bgp_community = tuples();
  else if (name === "BGP.large_community") route.bgp_large_community = tuples();
}
