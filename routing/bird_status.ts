import type { Family } from "../lib/ip.ts";
import type { ReplyLine } from "./bird_control.ts";

/** One BGP session as BIRD tells it. */
export interface Session {
  /** Name of its protocol, as Calico names it: `Mesh_10_0_0_2`. */
  name: string;
  kind: "Mesh" | "Global" | "Node" | "Local_Workload";
  /** Address of the other side. */
  peer: string;
  port?: number;
  asNumber?: number;
  /** BIRD's protocol state: `up`, `start`, `down`, … */
  protocolState: string;
  /** `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Established`, `Close`, `Down` or `Passive`. */
  state: string;
  /** When it came into this state, `2026-11-21 15:03:22`, local time. */
  since: string;
  /** What went wrong last, in BIRD's words. */
  lastError?: string;
  /** Routes of this session; known after it was established. */
  routes?: { imported: number; exported: number; preferred: number };
}

/** What `show status` tells. Times are local, `2026-11-21 15:15:10.309`. */
export interface BirdState {
  version: string;
  routerId: string;
  startedAt: string;
  reconfiguredAt: string;
  /** A graceful restart is being recovered from. */
  recovering: boolean;
}

/** One route of `show route`. */
export interface BirdRoute {
  net: string;
  /** `unicast`, `blackhole`, … */
  type: string;
  /** Name of the protocol that it came from. */
  protocol: string;
  /** The peer that told it. */
  from?: string;
  /** The one that is used; others of the same network are spare. */
  primary: boolean;
  gateways: { via?: string; interface: string }[];
}

/** Row of `show protocols`: words of its columns. */
interface ProtocolRow {
  name: string;
  proto: string;
  table: string;
  state: string;
  since: string;
  info: string;
}

/** Reads the answer to `show status`. */
export function parseState(lines: ReplyLine[]): BirdState {
  const after = (pattern: RegExp) => lines.map((l) => pattern.exec(l.text)?.[1]).find((t) => t !== undefined) ?? "";
  return {
    version: after(/^BIRD (\S+)/),
    routerId: after(/^Router ID is (\S+)/),
    startedAt: after(/^Last reboot on (.+)$/),
    reconfiguredAt: after(/^Last reconfiguration on (.+)$/),
    recovering: lines.some((l) => l.code === 24),
  };
}

/** Reads the answer to `show protocols all`: the BGP sessions, in BIRD's order. */
export function parseSessions(lines: ReplyLine[]): Session[] {
  const sessions: Session[] = [];
  let current: Session | undefined;
  for (const { code, text } of lines) {
    if (code === 1002 && /^\S/.test(text)) {
      current = sessionOf(parseRow(text));
      if (current) sessions.push(current);
    } else if (current) addDetail(current, text.trim());
  }
  return sessions;
}

/** A row of `show protocols`. The time of BIRD 2's `iso long` has two words, its other forms one. */
export function parseRow(text: string): ProtocolRow {
  const [name = "", proto = "", table = "", state = "", ...rest] = text.trim().split(/\s+/);
  const long = /^\d{4}-\d\d-\d\d$/.test(rest[0] ?? "") && /^\d\d:\d\d:\d\d/.test(rest[1] ?? "");
  const since = rest.splice(0, long ? 2 : 1).join(" ");
  return { name, proto, table, state, since, info: rest.join(" ") };
}

/** What the name of a session's protocol says: `Global_192_168_10_1_port_1790`. Undefined for other protocols. */
export function nameParts(
  name: string,
): { kind: Session["kind"]; v: Family; address: string; port?: number } | undefined {
  const [, kind, address, port] = /^(Mesh|Global|Node|Local_Workload)_(.+?)(?:_port_(\d+))?$/.exec(name) ?? [];
  if (!kind) return undefined;
  const v = /^\d{1,3}(_\d{1,3}){3}$/.test(address!) ? 4 : 6;
  return {
    kind: kind as Session["kind"],
    v,
    address: address!.replaceAll("_", v === 4 ? "." : ":"),
    port: port === undefined ? undefined : Number(port),
  };
}

function sessionOf(row: ProtocolRow): Session | undefined {
  const parts = nameParts(row.name);
  if (row.proto !== "BGP" || !parts) return undefined;
  const [state = "", ...error] = row.info.split(" ");
  return {
    name: row.name,
    kind: parts.kind,
    peer: parts.address,
    port: parts.port,
    protocolState: row.state,
    state: state || "Down",
    since: row.since,
    lastError: error.length > 0 ? error.join(" ") : undefined,
  };
}

function addDetail(session: Session, line: string): void {
  const [, name, value] = /^([A-Z][^:]+):\s+(.*)$/.exec(line) ?? [];
  if (name === "Neighbor address") session.peer = value!.replace(/%.*$/, "");
  else if (name === "Neighbor AS") session.asNumber = Number(value);
  else if (name === "Last error") session.lastError = value;
  else if (name === "Routes") {
    const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(value!)?.[1] ?? 0);
    session.routes = { imported: count("imported"), exported: count("exported"), preferred: count("preferred") };
  }
}

/** Reads the answer to `show route`. Every route takes one line and one more for each gateway. */
export function parseRoutes(lines: ReplyLine[]): BirdRoute[] {
  const routes: BirdRoute[] = [];
  let net = "";
  for (const { text } of lines) {
    const [, first, type, protocol, from, mark] =
      /^\s?(\S+)?\s+(\w+) \[(\S+) [^\]]*?(?:from ([^\s\]%]+)[^\]]*)?\](?: ([*!]))?/.exec(text) ?? [];
    if (type) {
      net = first ?? net;
      routes.push({ net, type, protocol: protocol!, from, primary: mark !== undefined, gateways: [] });
      continue;
    }
    const [, via, dev, on] = /^\s*(?:via (\S+)|dev (\S+))(?: on (\S+))?/.exec(text) ?? [];
    if (via || dev) routes.at(-1)?.gateways.push({ via, interface: (on ?? dev)! });
  }
  return routes;
}
