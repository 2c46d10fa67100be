import { type Cidr, tryParseCidrOrIp } from "../../lib/ip.ts";
import { messageOf } from "../../lib/problem.ts";
import { uniqueId } from "../../datastore/selector/canonical.ts";
import { parseSelector, type Selector } from "../../datastore/selector/index.ts";
import type {
  IcmpMatch,
  PortRange,
  Protocol,
  Rule,
  RuleAction,
  SetId,
  SideMatch,
  SideWords,
} from "../desired_policy.ts";

/** Protocol of a named-port set: the rule's, or any when the rule names none. */
export type PortProtocol = "tcp" | "udp" | "sctp" | "any";

/** What fills an IP set. */
export type SetSource =
  | { from: "selector"; selector: Selector }
  | { from: "namedPort"; selector: Selector; protocol: PortProtocol; port: string }
  | { from: "service"; service: string; withPorts: boolean };

/** A rule and the sets that it looks into. */
export interface ParsedRule {
  rule: Rule;
  sets: Map<SetId, SetSource>;
}

/** A rule of the datastore, as far as it can be trusted: nothing is. */
export interface StoredRule {
  action?: string;
  ipVersion?: number;
  protocol?: number | string;
  notProtocol?: number | string;
  icmp?: { type?: number; code?: number };
  notICMP?: { type?: number; code?: number };
  source?: StoredSide;
  destination?: StoredSide;
  http?: Rule["http"];
  metadata?: { annotations?: Record<string, string> };
}

/** Source or destination of a StoredRule. */
export interface StoredSide extends SideWords {
  nets?: string[];
  notNets?: string[];
  ports?: (number | string)[];
  notPorts?: (number | string)[];
}

const namespaceLabel = "projectcalico.org/namespace";
const serviceAccountLabel = "projectcalico.org/serviceaccount";

/**
 * Turns a stored rule into one that the dataplane can use. `namespace` is the policy's, "" for global ones and profiles.
 * Source: Calico's syncersv1/updateprocessors/rules.go and felix/calc/rule_scanner.go.
 *
 * DIFFERS: a rule with a part that cannot be understood fails closed: Allow and Log never match, Deny and Pass become a
 * Deny of everything; Calico drops the part and keeps the rest of the rule, so that it matches more than was written.
 * @returns the rule (undefined: it never matches) and what could not be understood.
 */
export function parseRule(stored: StoredRule, namespace: string): { parsed?: ParsedRule; problem?: string } {
  try {
    return { parsed: readRule(stored, namespace) };
  } catch (error) {
    const problem = messageOf(error);
    const closes = ["deny", "pass"].includes(String(stored.action).toLowerCase()) || !knownAction(stored.action);
    return closes ? { parsed: { rule: { ...matchAll("deny") }, sets: new Map() }, problem } : { problem };
  }
}

/** A rule that matches every packet. */
export function matchAll(action: RuleAction): Rule {
  return { action, source: emptySide(), destination: emptySide(), words: { source: {}, destination: {} } };
}

/** A side that asks nothing. */
export function emptySide(): SideMatch {
  return {
    nets: [],
    notNets: [],
    ports: [],
    namedPortSets: [],
    notPorts: [],
    notNamedPortSets: [],
    sets: [],
    notSets: [],
    serviceSets: [],
  };
}

function readRule(stored: StoredRule, namespace: string): ParsedRule {
  const action = actionOf(stored.action);
  const sets = new Map<SetId, SetSource>();
  const protocol = stored.protocol === undefined ? undefined : protocolOf(stored.protocol);
  const portProtocol = protocol === undefined ? "any" : portProtocolOf(protocol);
  const side = (s: StoredSide | undefined, isSource: boolean) =>
    readSide(s ?? {}, namespace, portProtocol, isSource, sets);
  const rule: Rule = {
    action,
    source: side(stored.source, true),
    destination: side(stored.destination, false),
    words: { source: wordsOf(stored.source), destination: wordsOf(stored.destination) },
  };
  if (stored.ipVersion !== undefined) rule.ipVersion = familyOf(stored.ipVersion);
  if (protocol !== undefined) rule.protocol = protocol;
  if (stored.notProtocol !== undefined) rule.notProtocol = protocolOf(stored.notProtocol);
  if (stored.icmp?.type !== undefined) rule.icmp = icmpOf(stored.icmp);
  if (stored.notICMP?.type !== undefined) rule.notIcmp = icmpOf(stored.notICMP);
  if (rule.protocol === undefined || !hasPorts(rule.protocol)) {
    const { source: a, destination: b } = rule;
    // iptables refuses the whole table for such a line.
    if ([a.ports, a.notPorts, b.ports, b.notPorts].some((list) => list.length > 0)) {
      throw new Error("port numbers need protocol TCP, UDP, SCTP or UDPLite");
    }
  }
  if (stored.http) rule.http = stored.http;
  if (stored.metadata?.annotations) rule.annotations = stored.metadata.annotations;
  return { rule, sets };
}

function readSide(
  stored: StoredSide,
  namespace: string,
  protocol: PortProtocol,
  isSource: boolean,
  sets: Map<SetId, SetSource>,
): SideMatch {
  const side = emptySide();
  const use = (list: SetId[], source: SetSource) => {
    const id = setId(source);
    sets.set(id, source);
    list.push(id);
  };
  side.nets = netsOf(stored.nets);
  side.notNets = netsOf(stored.notNets);
  const ports = splitPorts(stored.ports);
  const notPorts = splitPorts(stored.notPorts);
  side.ports = ports.ranges;
  side.notPorts = notPorts.ranges;

  const { positive, negative } = sideSelectors(stored, namespace);
  const among = positive ?? parseSelector("");
  for (const port of ports.names) use(side.namedPortSets, { from: "namedPort", selector: among, protocol, port });
  // A negated named port is looked for among what the positive selector allows: nothing else can match the rule.
  for (const port of notPorts.names) use(side.notNamedPortSets, { from: "namedPort", selector: among, protocol, port });
  // Named ports alone carry the selector in their sets; numeric ports cannot.
  if (positive && (ports.ranges.length > 0 || ports.names.length === 0)) {
    use(side.sets, { from: "selector", selector: positive });
  }
  if (negative) use(side.notSets, { from: "selector", selector: negative });
  if (stored.services?.name) {
    const service = `${stored.services.namespace ?? ""}/${stored.services.name}`;
    use(isSource ? side.sets : side.serviceSets, { from: "service", service, withPorts: !isSource });
  }
  return side;
}

/** One selector for who the side may be, and one for who it may not be when the first cannot say that too. */
function sideSelectors(stored: StoredSide, namespace: string): { positive?: Selector; negative?: Selector } {
  const text = sideSelectorText(stored, namespace);
  const not = stored.notSelector ?? "";
  if (text && not) return { positive: parseSelector(`(${text}) && (!(${not}))`) };
  return { positive: text ? parseSelector(text) : undefined, negative: not ? parseSelector(not) : undefined };
}

/**
 * The selector text of a rule side, "" when it asks for nobody in particular. A namespaced policy's rule is limited to
 * its namespace as soon as any selector stands in it. Source: rules.go, getEndpointSelector.
 */
export function sideSelectorText(stored: StoredSide, namespace: string): string {
  const namespaces = stored.namespaceSelector
    ? withPrefix(stored.namespaceSelector, "pcns.")
      .replaceAll("all()", `has(${namespaceLabel})`)
      .replaceAll("global()", `!has(${namespaceLabel})`)
    : namespace
    ? `${namespaceLabel} == '${namespace}'`
    : "";
  const parts = [accountsText(stored.serviceAccounts), stored.selector ?? ""].filter((p) => p !== "");
  const who = parts.length === 2 ? `(${parts[0]}) && (${parts[1]})` : parts[0] ?? "";
  if (!namespaces || !(who || stored.notSelector || stored.namespaceSelector)) return who;
  return who ? `(${namespaces}) && (${who})` : namespaces;
}

function accountsText(accounts: SideWords["serviceAccounts"]): string {
  const selected = accounts?.selector ? withPrefix(accounts.selector, "pcsa.") : "";
  if (!accounts?.names?.length) return selected;
  const names = parseSelector(`${serviceAccountLabel} in { '${accounts.names.join("', '")}' }`).text;
  return selected ? `(${selected}) && (${names})` : names;
}

/** Canonical text of a selector with every label name prefixed. */
export const withPrefix = (text: string, prefix: string): string => parseSelector(text).withPrefix(prefix).text;

/** The set's id, as Calico calculates it. Source: felix/calc/rule_scanner.go, UniqueID. */
export function setId(source: SetSource): SetId {
  switch (source.from) {
    case "selector":
      return source.selector.id;
    case "namedPort":
      return uniqueId("n", `${source.selector.id},${source.protocol},${source.port}`);
    case "service":
      return uniqueId(source.withPorts ? "svc" : "svcnoport", source.service);
  }
}

function wordsOf(side: StoredSide | undefined): SideWords {
  const words: SideWords = {};
  if (side?.selector) words.selector = side.selector;
  if (side?.notSelector) words.notSelector = side.notSelector;
  if (side?.namespaceSelector) words.namespaceSelector = side.namespaceSelector;
  if (side?.serviceAccounts) words.serviceAccounts = side.serviceAccounts;
  if (side?.services) words.services = side.services;
  return words;
}

const actions: Record<string, RuleAction> = { "": "allow", allow: "allow", deny: "deny", pass: "pass", log: "log" };
const knownAction = (text: string | undefined): boolean => (text ?? "").toLowerCase() in actions;

function actionOf(text: string | undefined): RuleAction {
  const action = actions[(text ?? "").toLowerCase()];
  if (!action) throw new Error(`unknown action "${text}"`);
  return action;
}

const protocolNames = new Set(["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite"]);

function protocolOf(value: number | string): Protocol {
  if (typeof value === "string" && protocolNames.has(value.toLowerCase())) return value.toLowerCase();
  const n = Number(value);
  if (Number.isInteger(n) && n >= 1 && n <= 255) return n;
  throw new Error(`unknown protocol "${value}"`);
}

const hasPorts = (protocol: Protocol): boolean => ["tcp", "udp", "sctp", "udplite", 6, 17, 132, 136].includes(protocol);

function portProtocolOf(protocol: Protocol): PortProtocol {
  if (protocol === "udp" || protocol === 17) return "udp";
  return protocol === "sctp" || protocol === 132 ? "sctp" : "tcp";
}

function familyOf(version: number): 4 | 6 {
  if (version === 4 || version === 6) return version;
  throw new Error(`unknown IP version ${version}`);
}

function icmpOf(stored: { type?: number; code?: number }): IcmpMatch {
  const inRange = (n: number | undefined, max: number) =>
    n === undefined || (Number.isInteger(n) && n >= 0 && n <= max);
  // To iptables type 255 means any.
  if (!inRange(stored.type, 254) || !inRange(stored.code, 255)) throw new Error("ICMP type or code out of range");
  return stored.code === undefined ? { type: stored.type! } : { type: stored.type!, code: stored.code };
}

function netsOf(texts: string[] | undefined): Cidr[] {
  return (texts ?? []).map((text) => {
    const cidr = tryParseCidrOrIp(text);
    if (!cidr) throw new Error(`"${text}" is not a network`);
    return cidr;
  });
}

function splitPorts(stored: (number | string)[] | undefined): { ranges: PortRange[]; names: string[] } {
  const ranges: PortRange[] = [];
  const names: string[] = [];
  for (const port of stored ?? []) {
    const range = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(String(port));
    if (!range) names.push(String(port));
    else ranges.push(portRange(Number(range[1]), Number(range[2] ?? range[1])));
  }
  return { ranges, names };
}

function portRange(min: number, max: number): PortRange {
  if (min > max || max > 65535) throw new Error(`port range ${min}:${max} is not possible`);
  return { min, max };
}
