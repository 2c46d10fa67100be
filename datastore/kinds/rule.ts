import { tryParseCidr } from "../../lib/ip.ts";
import { always, given, integer, list, map, object, type Refuse, text } from "../schema/fields.ts";
import { type Port, port, portRange, type Protocol, protocol } from "../schema/scalars.ts";
import type { ObjectOf, Of } from "../schema/schema.ts";
import { lex } from "../selector/lex.ts";
import * as tags from "../schema/tags.ts";
import { checkAnnotations } from "../metadata.ts";

/** What a rule may do. */
export const actions = ["Allow", "Deny", "Log", "Pass"];

const icmp = (go: string) =>
  object({
    type: given(integer({ min: 0, max: 254, tags: [tags.gte(0), tags.lte(254)] })),
    code: given(integer({ min: 0, max: 255, tags: [tags.gte(0), tags.lte(255)] })),
  }, {
    go,
    cel({ type, code }, refuse) {
      if (code !== undefined && type === undefined) refuse("ICMP code specified without an ICMP type");
    },
  });

const entity = () =>
  object({
    nets: list(text({ tags: [tags.net] }), { maxItems: 256 }),
    selector: text({ tags: [tags.selector], max: 1024 }),
    /** Selects namespaces, and with them the endpoints in them; `global()` selects what has no namespace. */
    namespaceSelector: text({ tags: [tags.selector], max: 1024 }),
    services: given(object({
      name: text({ tags: [tags.name], max: 253 }),
      namespace: text({ tags: [tags.name], max: 253 }),
    })),
    ports: list(port(), { maxItems: 50 }),
    notNets: list(text({ tags: [tags.net] }), { maxItems: 256 }),
    notSelector: text({ tags: [tags.selector], max: 1024 }),
    notPorts: list(port(), { maxItems: 50 }),
    serviceAccounts: given(object({
      names: list(text()),
      selector: text({ tags: [tags.selector] }),
    })),
  }, {
    rules({ namespaceSelector = "" }, refuse) {
      if (namespaceSelector.includes("global(") && !isOnlyGlobal(namespaceSelector)) {
        refuse("NamespaceSelector field", "global() cannot be combined with other selectors", namespaceSelector);
      }
    },
    cel(side, refuse) {
      if (side.selector?.includes("global(")) {
        refuse("global() can only be used in an EntityRule namespaceSelector");
      }
      if (!side.services) return;
      if (side.namespaceSelector) refuse("cannot specify NamespaceSelector and Services on the same rule");
      if (side.serviceAccounts) refuse("cannot specify ServiceAccounts and Services on the same rule");
      if (!side.services.name) refuse("services must specify a service name");
      if (side.selector || side.notSelector) {
        refuse("cannot specify Selector/NotSelector and Services on the same rule");
      }
      if (side.nets?.length || side.notNets?.length) {
        refuse("cannot specify Nets/NotNets and Services on the same rule");
      }
    },
  });

const ruleFields = {
  action: always(text({ oneOf: actions, required: true })),
  ipVersion: given(integer({ go: "IPVersion", oneOf: [4, 6] })),
  protocol: given(protocol()),
  icmp: given(icmp("ICMP")),
  notProtocol: given(protocol()),
  notICMP: given(icmp("NotICMP")),
  source: entity(),
  destination: entity(),
  http: given(object({
    methods: list(text(), { maxItems: 20 }),
    paths: list(object({ exact: text({ max: 1024 }), prefix: text({ max: 1024 }) }), { maxItems: 20 }),
  }, {
    rules({ methods = [], paths = [] }, refuse) {
      if (new Set(methods).size !== methods.length) {
        refuse("Methods", `Invalid methods (duplicates): [${methods.join(" ")}]`, methods);
      }
      const reason = paths.map(pathProblem).find((r) => r !== undefined);
      if (reason) refuse("Paths", reason, paths);
    },
  })),
  metadata: given(object({ annotations: map(text()) }, {
    rules: ({ annotations = {} }, refuse) => checkAnnotations(annotations, refuse),
  })),
};

/** The members of one rule of a policy or profile. */
export const rule = () => object(ruleFields, { rules: checkRule, cel: checkRuleSchema });

/** One rule: conditions, all of which must hold, and what then happens. */
export type Rule = ObjectOf<typeof ruleFields>;
/** One side of a rule: who it is, by address, label, service or account. */
export type EntityRule = Of<ReturnType<typeof entity>>;

/** True for TCP, UDP and SCTP by name or number: what has ports. */
export const hasPorts = (p: Protocol): boolean => /^(TCP|UDP|SCTP|tcp|udp|sctp|6|17|132)$/.test(String(p));

/** True when the selector is `global()` and nothing else; blanks do not count. */
function isOnlyGlobal(selector: string): boolean {
  try {
    const tokens = lex(selector);
    return tokens.length <= 2 && tokens[0]?.kind === "global";
  } catch {
    // Not even words: it is not global() alone, and the selector tag says what is wrong with it.
    return false;
  }
}

function pathProblem({ exact = "", prefix = "" }: { exact?: string; prefix?: string }): string | undefined {
  if (exact && prefix) return "Invalid path match. Both 'exact' and 'prefix' are set";
  const path = exact || prefix;
  if (!path) return "Invalid path match. Either 'exact' or 'prefix' must be set";
  // RFC 3986 section 3.3: what cannot stand in a path.
  if (path.startsWith("/") && !/[? #]/.test(path)) return undefined;
  return `Invalid path ${path}. (must start with \`/\` and not contain \`?\` or \`#\``;
}

function checkRule(r: Rule, refuse: Refuse): void {
  const numeric = (ports: Port[] = []) => ports.some((p) => portRange(p) !== undefined);
  for (const [name, side] of [["Source", r.source], ["Destination", r.destination]] as const) {
    for (const [member, ports] of [["Ports", side?.ports], ["NotPorts", side?.notPorts]] as const) {
      const field = `${name}.${member}`;
      if (r.protocol === undefined) {
        if (numeric(ports)) {
          refuse(field, "rules with numeric port or port range must set protocol to TCP or UDP or SCTP", ports);
        }
      } else if (!hasPorts(r.protocol) && ports?.length) {
        refuse(field, "rules that specify ports must set protocol to TCP or UDP or SCTP", ports);
      }
    }
  }
  checkNets(r, refuse);
}

/** All networks of a rule are of one family, that of `ipVersion` when it is set. */
function checkNets(r: Rule, refuse: Refuse): void {
  const seen = new Set<number>();
  const lists = [
    ["Source.Nets", r.source?.nets],
    ["Source.NotNets", r.source?.notNets],
    ["Destination.Nets", r.destination?.nets],
    ["Destination.NotNets", r.destination?.notNets],
  ] as const;
  for (const [field, nets] of lists) {
    const here = new Set<number>();
    for (const net of nets ?? []) {
      const cidr = tryParseCidr(net);
      if (!cidr) refuse(field, "invalid CIDR", net);
      else {
        here.add(cidr.v);
        const everything = cidr.len === 0 && (cidr.v === 6 || net === "0.0.0.0/0");
        if (field.endsWith("NotNets") && everything) {
          refuse(field, "catch-all CIDR in negation creates logical contradiction (matches no traffic)", net);
        }
      }
    }
    if (r.ipVersion !== undefined && [...here].some((v) => v !== r.ipVersion)) {
      refuse(field, "rule IP version doesn't match CIDR version", r.source?.nets);
    }
    const both = here.size === 2 || [...here].some((v) => seen.has(10 - v));
    if (both) refuse(field, "rule contains both IPv4 and IPv6 CIDRs", nets);
    for (const v of here) seen.add(v);
  }
}

function checkRuleSchema(r: Rule, refuse: (reason: string) => void): void {
  if (r.http && r.protocol !== undefined && r.protocol !== "TCP" && r.protocol !== 6) {
    refuse("rules with HTTP match must have protocol TCP or unset");
  }
  if (r.http && r.action !== "Allow") refuse("HTTP match is only valid on Allow rules");
  if (r.destination?.services && (r.destination.ports?.length || r.destination.notPorts?.length)) {
    refuse("ports and notPorts cannot be specified with services");
  }
  const isV4 = (p: Protocol | undefined) => p === "ICMP" || p === 1;
  const isV6 = (p: Protocol | undefined) => p === "ICMPv6" || p === 58;
  if (r.icmp && !isV4(r.protocol) && !isV6(r.protocol)) refuse("ICMP fields require protocol to be ICMP or ICMPv6");
  for (const p of [r.protocol, r.notProtocol]) {
    if (isV4(p) && r.ipVersion !== undefined && r.ipVersion !== 4) refuse("protocol ICMP requires ipVersion 4");
    if (isV6(p) && r.ipVersion !== undefined && r.ipVersion !== 6) refuse("protocol ICMPv6 requires ipVersion 6");
  }
}
