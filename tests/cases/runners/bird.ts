import { type BirdInput, type CaseRoute, configurationOf } from "./_bird_input.ts";
import { type Code, type Configuration, parseConfiguration, type Statement } from "./_bird_language.ts";
import { inside, judge, type Route, type Verdict } from "./_bird_machine.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

/** One place where the outcome is not Calico's. */
interface Difference {
  /** `v4.decisions.kernel.own-block`. */
  path: string;
  expected: unknown;
  got: unknown;
}

/** Where we differ on purpose: the reason, and how such a difference is known. All others are failures. */
const onPurpose: { reason: string; is(difference: Difference, input: BirdInput): boolean }[] = [
  {
    reason: "upstream BIRD has no tunnel attribute: the agent programs IPIP, so its routes stay out of BIRD's hands",
    is: ({ path, got }, input) => {
      const [, , way, ...rest] = path.split(".");
      const route = input.routes?.find((r) => r.id === (way === "kernel" ? rest[0] : rest[1]));
      if (got !== "reject" || !route) return false;
      const pools = ipipPoolsOfBird(input);
      return way === "kernel"
        ? pools.some((cidr) => inside(route.net, cidr))
        : way === "export" && route.ifname === "tunl0" && pools.length > 0;
    },
  },
  {
    reason: "a node with only IPv6 gets the hash of its name as router id, where Calico writes none",
    is: ({ path, expected }) => path.endsWith(".routerId") && (expected === "" || expected === null),
  },
];

/** Pools whose IPIP routes the default BGPConfiguration gives to BIRD. */
function ipipPoolsOfBird(input: BirdInput): string[] {
  const specs = (plural: string) =>
    Object.entries(input.datastore).filter(([key]) => key.includes(`/${plural}/`))
      .map(([key, value]) => ({ key, spec: (value as { spec?: Record<string, unknown> }).spec ?? {} }));
  const config = specs("bgpconfigurations").find(({ key }) => key.endsWith("/default"))?.spec;
  if (!["Enabled", "EnabledIPIPOnly"].includes(String(config?.programClusterRoutes))) return [];
  return specs("ippools").filter(({ spec }) => ["Always", "CrossSubnet"].includes(String(spec.ipipMode)))
    .map(({ spec }) => String(spec.cidr));
}

/**
 * Runs bird.json: renders the configuration and judges the routes by reading its text, see _bird_language.ts. What real
 * BIRD does with that text is compared in tests/system/bird_test.ts.
 */
export const runner: CaseRunner = {
  run(one: Case): Outcome {
    const input = one.input as unknown as BirdInput;
    const { routes = [] } = input;
    const configuration = parseConfiguration(configurationOf(input));
    const expected = one.expect as Record<"v4" | "v6", Record<string, unknown>>;
    const differences: Difference[] = [];
    for (const family of ["v4", "v6"] as const) {
      const got = outcome(configuration, family, routes, expected[family]);
      compare(family, normal(expected[family]), got, differences);
    }
    if (differences.length === 0) return { is: "passed" };
    const reasons = differences.map((d) => onPurpose.find((p) => p.is(d, input))?.reason);
    if (!reasons.includes(undefined)) return { is: "differs", reason: [...new Set(reasons)].join("; ") };
    const shown = differences.filter((_, i) => reasons[i] === undefined)
      .map((d) => `${d.path}: expected ${JSON.stringify(d.expected)}, got ${JSON.stringify(d.got)}`);
    return { is: "failed", difference: shown.join("\n") };
  },
};

/** Where nothing of BGP is configured there is nothing that listens; Calico's file still has the line. */
function normal(expected: Record<string, unknown>): Record<string, unknown> {
  return expected.enabled ? expected : { ...expected, listen: null };
}

/** The summary of one family in the shape of `expect`. */
function outcome(
  configuration: Configuration,
  family: "v4" | "v6",
  routes: CaseRoute[],
  expected: Record<string, unknown>,
): Record<string, unknown> {
  const v = family.slice(1);
  const find = (...words: string[]) =>
    configuration.statements.find((s) => words.every((w, i) => s.words[i] === w))?.block ?? [];
  const template = find("template", "bgp", `bgp${v}`);
  const enabled = template.length > 0;
  const sessions = configuration.statements.filter((s) =>
    s.words[0] === "protocol" && s.words[1] === "bgp" && s.words.at(-1) === `bgp${v}`
  );
  const statics = find("protocol", "static", `static${v}`).filter((s) => s.words[0] === "route");
  const local = optionsAfter(template, "local");
  const listen = { address: local.address ?? null, port: local.port ?? null };
  const result: Record<string, unknown> = {
    routerId: configuration.statements.find((s) => s.words[0] === "router")?.words[2],
    listen: listen.address || listen.port ? listen : null,
    directInterfaces: interfaces(find("protocol", "direct")),
    localAs: local.as ?? null,
    blackholes: statics.filter((s) => s.words[2] === "blackhole").map((s) => s.words[1]).sort(),
    staticVia: statics.filter((s) => s.words[2] === "via").map((s) => ({ to: s.words[1], via: s.words[3] })),
    peers: Object.fromEntries(sessions.map((s) => [s.words[2], peerOf(s.block!, local)])),
    enabled,
    debug: debugOf(find("protocol", "device")),
  };
  if (expected.decisions) result.decisions = decisions(configuration, family, sessions, routes);
  return result;
}

/** `local 10.0.0.1 port 178 as 64512`, `neighbor …`: the address, and each word with its number. */
function optionsAfter(block: Statement[], first: string): Record<string, string | number | undefined> {
  const out: Record<string, string | number | undefined> = {};
  for (const { words } of block.filter((s) => s.words[0] === first)) {
    for (let i = 1; i < words.length; i++) {
      if (/[.:]/.test(words[i]!)) out.address = words[i];
      else out[words[i]!] = Number(words[++i]);
    }
  }
  return out;
}

function peerOf(block: Statement[], template: Record<string, string | number | undefined>): Record<string, unknown> {
  const number = (...words: string[]) => {
    const found = block.find((s) => words.every((w, i) => s.words[i] === w) && s.words.length === words.length + 1);
    return found ? Number(found.words.at(-1)) : null;
  };
  const has = (...words: string[]) => block.some((s) => words.every((w, i) => s.words[i] === w));
  const channel = block.find((s) => /^ipv[46]$/.test(s.words[0]!))!.block!;
  const neighbor = optionsAfter(block, "neighbor");
  const local = optionsAfter(block, "local");
  const nextHop = channel.find((s) => s.words[0] === "next")?.words[2] ?? null;
  const clusterId = block.find((s) => s.words[0] === "rr" && s.words[1] === "cluster")?.words[3] ?? null;
  return {
    ip: neighbor.address,
    port: neighbor.port ?? null,
    as: neighbor.as,
    localAs: local.as ?? null,
    source: local.address ?? null,
    ttlSecurityHops: has("ttl", "security", "on") ? number("multihop") : null,
    passive: has("passive", "on"),
    restartTime: number("graceful", "restart", "time"),
    keepalive: number("keepalive", "time"),
    rrClient: has("rr", "client"),
    clusterId,
    password: block.find((s) => s.words[0] === "password")?.words[1] ?? null,
    nextHop,
    allowLocalAs: number("allow", "local", "as"),
    ...(template.as === undefined ? { localAs: "no AS" } : {}),
  };
}

/** `interface -"cali*", "*"` as the shape has it. */
function interfaces(direct: Statement[]): string[] {
  const words = direct.find((s) => s.words[0] === "interface")!.words.slice(1);
  return words.join(" ").split(" , ").map((p) => p.replace("- ", "-"));
}

function debugOf(block: Statement[]): string {
  const words = block.find((s) => s.words[0] === "debug")?.words;
  return words ? (words[1] === "all" ? "all" : "states") : "none";
}

function decisions(
  configuration: Configuration,
  family: "v4" | "v6",
  sessions: Statement[],
  routes: CaseRoute[],
): Record<string, unknown> {
  const own = routes.filter((r) => r.net.includes(":") === (family === "v6"));
  const judged = (code: Code[], list: CaseRoute[], say: (v: Verdict, r: CaseRoute) => unknown) =>
    Object.fromEntries(list.map((r) => [r.id, say(judge(configuration, code, routeOf(r)), r)]));
  const code = (session: Statement, way: string) =>
    session.block!.find((s) => /^ipv/.test(s.words[0]!))!.block!.find((s) => s.words[0] === way)!.code!;
  const learned = own.filter((r) => r.from === "bgp");
  const bySession = (way: string, list: CaseRoute[], say: (v: Verdict, r: CaseRoute) => unknown) =>
    Object.fromEntries(sessions.map((s) => [s.words[2], judged(code(s, way), list, say)]));
  const kernel = configuration.filters.get(`calico_kernel_programming${family.slice(1)}`)!;
  return {
    export: bySession("export", own, (v, r) => v ? { ...bgpPart(v), ...prepended(v, r) } : "reject"),
    import: bySession("import", learned, (v) => v ? { ...bgpPart(v), ...preference(v) } : "reject"),
    kernel: judged(
      kernel,
      own.filter((r) => r.from === "bgp" || r.from === "static"),
      (v) => v ? { metric: v.krt_metric ?? null, ...preference(v) } : "reject",
    ),
  };
}

function routeOf(r: CaseRoute): Route {
  const source = { kernel: "RTS_INHERIT", static: "RTS_STATIC", device: "RTS_DEVICE", bgp: "RTS_BGP" } as const;
  const communities = r.communities ?? [];
  return {
    net: r.net,
    source: source[r.from],
    ifname: r.ifname,
    krt_metric: r.from === "kernel" ? r.metric ?? 0 : undefined,
    bgp_local_pref: r.from === "bgp" ? r.localPref ?? 100 : undefined,
    bgp_next_hop: r.nextHop,
    bgp_path: [...(r.asPath ?? [])],
    bgp_community: communities.filter((c) => c.split(":").length === 2),
    bgp_large_community: communities.filter((c) => c.split(":").length === 3),
  };
}

function bgpPart(v: Route): Record<string, unknown> {
  const communities = [...v.bgp_community, ...v.bgp_large_community];
  return { localPref: v.bgp_local_pref, ...(communities.length > 0 ? { communities } : {}) };
}

const preference = (v: Route) => (v.preference === undefined ? {} : { preference: v.preference });

function prepended(v: Route, r: CaseRoute): Record<string, unknown> {
  const added = v.bgp_path.slice(0, v.bgp_path.length - (r.asPath ?? []).length);
  return added.length > 0 ? { prepended: added } : {};
}

/** Collects the paths where two JSON values differ. Communities are a set; an empty object is nothing. */
function compare(path: string, expected: unknown, got: unknown, out: Difference[]): void {
  const isRecord = (x: unknown): x is Record<string, unknown> =>
    typeof x === "object" && x !== null && !Array.isArray(x);
  if (isRecord(expected ?? {}) && isRecord(got ?? {}) && (isRecord(expected) || isRecord(got))) {
    const [want, have] = [expected ?? {}, got ?? {}] as Record<string, unknown>[];
    for (const key of new Set([...Object.keys(want!), ...Object.keys(have!)])) {
      compare(`${path}.${key}`, want![key], have![key], out);
    }
    return;
  }
  const text = (x: unknown) => JSON.stringify(path.endsWith(".communities") ? (x as string[] ?? []).toSorted() : x);
  if (text(expected) !== text(got)) out.push({ path, expected, got });
}
