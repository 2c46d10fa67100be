import { type InterfaceCount, ruleTotals } from "../agent/netfilter/decision_counts.ts";
import { anyInterface } from "../agent/netfilter/names.ts";
import type { LiveCounts } from "./live_counts.ts";
import { plainTable } from "./table.ts";

/** What an endpoint of this host has sent and been sent, and what was dropped for want of a rule. */
export interface TopEndpoint {
  endpoint: string;
  interfaceName: string;
  /** undefined for a host endpoint: its packets have no line of their own. */
  packetsTo?: number;
  packetsFrom?: number;
  bytes?: number;
  /** At the end of a tier, or where no profile's rule matched. Explicit Deny rules are counted with their policy. */
  deniedByDefault: number;
}

/** What the rules of a policy or profile have matched on this host. */
export interface TopPolicy {
  policy: string;
  allowed: number;
  denied: number;
  bytes: number;
}

/** A host of the cluster. */
export interface TopHost {
  node: string;
  endpoints: number;
  /** Seconds since its agent last told that it lives; undefined = it does not tell (reportingInterval is 0). */
  reportedAgoS?: number;
  /** Changes of the datastore that its agent has not taken in; this host's only. */
  behind?: number;
}

/** What `top` shows. With `seconds` numbers are those of that time. */
export interface Top {
  node: string;
  seconds?: number;
  endpoints: TopEndpoint[];
  policies: TopPolicy[];
  hosts: TopHost[];
}

/**
 * What the counters say, the busiest first: by what was dropped, then by packets.
 * @param names of endpoints by interface. @param before an earlier look; then only what came since is told. A count that is
 * less than before began anew in between.
 */
export function topOf(counts: LiveCounts, names: ReadonlyMap<string, string>, before?: LiveCounts): Omit<Top, "hosts"> {
  const endpoints = endpointsOf(counts, names), policies = policiesOf(counts);
  const since = before && { endpoints: endpointsOf(before, names), policies: policiesOf(before) };
  return {
    node: counts.node,
    endpoints: changed(endpoints, since?.endpoints, (e) => e.interfaceName).sort((a, b) =>
      b.deniedByDefault - a.deniedByDefault || packetsOf(b) - packetsOf(a) || compare(a.endpoint, b.endpoint)
    ),
    policies: changed(policies, since?.policies, (p) => p.policy).sort((a, b) =>
      b.denied - a.denied || b.allowed - a.allowed || compare(a.policy, b.policy)
    ),
  };
}

const packetsOf = ({ packetsTo = 0, packetsFrom = 0 }: TopEndpoint): number => packetsTo + packetsFrom;
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function endpointsOf({ interfaces, decisions }: LiveCounts, names: ReadonlyMap<string, string>): TopEndpoint[] {
  const traffic = new Map(interfaces.map((i): [string, InterfaceCount] => [i.interfaceName, i]));
  const denied = new Map<string, number>();
  for (const { interfaceName, decider, packets } of decisions) {
    if (interfaceName === undefined || decider.by === "rule") continue;
    denied.set(interfaceName, (denied.get(interfaceName) ?? 0) + packets);
  }
  return [...new Set([...traffic.keys(), ...denied.keys()])].map((interfaceName) => {
    const count = traffic.get(interfaceName);
    const name = interfaceName === anyInterface ? "host endpoint *" : interfaceName;
    return {
      ...{ endpoint: names.get(interfaceName) ?? name, interfaceName, deniedByDefault: denied.get(interfaceName) ?? 0 },
      ...(count &&
        { packetsTo: count.to.packets, packetsFrom: count.from.packets, bytes: count.to.bytes + count.from.bytes }),
    };
  });
}

function policiesOf({ decisions }: LiveCounts): TopPolicy[] {
  return [...ruleTotals(decisions)].map(([policy, rules]) => {
    const sum = (action: string) => rules.filter((r) => r.action === action).reduce((n, r) => n + r.packets, 0);
    return { policy, allowed: sum("allow"), denied: sum("deny"), bytes: rules.reduce((n, r) => n + r.bytes, 0) };
  });
}

/** Numbers less those of before. */
function changed<T extends object>(now: T[], before: T[] | undefined, keyOf: (t: T) => string): T[] {
  if (!before) return now;
  const known = new Map(before.map((t) => [keyOf(t), t as Record<string, unknown>]));
  return now.map((t) => {
    const old = known.get(keyOf(t)) ?? {};
    return Object.fromEntries(
      Object.entries(t).map(([name, value]) => {
        const was = old[name];
        return [name, typeof value !== "number" || typeof was !== "number" || was > value ? value : value - was];
      }),
    ) as T;
  });
}

/** The parts that are asked for, as tables. @param most rows a table; undefined = all. */
export function topText(top: Partial<Top>, most?: number): string {
  const per = (n: number | undefined) => (n === undefined ? "-" : top.seconds ? rate(n / top.seconds) : String(n));
  const unit = top.seconds ? "/S" : "";
  const table = <T>(rows: T[] | undefined, head: string[], cells: (row: T) => string[]): string => {
    if (!rows) return "";
    const shown = rows.slice(0, most), left = rows.length - shown.length;
    return plainTable(head, shown.map(cells)) + (left > 0 ? `and ${left} more\n\n` : "");
  };
  return [
    table(
      top.endpoints,
      ["ENDPOINT", "INTERFACE", `PACKETS TO${unit}`, `PACKETS FROM${unit}`, `BYTES${unit}`, `DENIED BY DEFAULT${unit}`],
      (e) => [e.endpoint, e.interfaceName, per(e.packetsTo), per(e.packetsFrom), per(e.bytes), per(e.deniedByDefault)],
    ),
    table(
      top.policies,
      ["POLICY", `ALLOWED${unit}`, `DENIED${unit}`, `BYTES${unit}`],
      (p) => [p.policy, per(p.allowed), per(p.denied), per(p.bytes)],
    ),
    table(
      top.hosts,
      ["HOST", "ENDPOINTS", "LAST REPORT", "CHANGES BEHIND"],
      (
        h,
      ) => [
        h.node,
        `${h.endpoints}`,
        h.reportedAgoS === undefined ? "-" : `${h.reportedAgoS}s ago`,
        `${h.behind ?? "-"}`,
      ],
    ),
  ].join("");
}

const rate = (n: number): string => (n === 0 ? "0" : n < 10 ? n.toFixed(1) : n.toFixed(0));
