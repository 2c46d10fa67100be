import { type Family, type Ip, ipBytes } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  join,
  type Message,
  nested,
  NLM,
  readIp,
  type Request,
  u32,
} from "../rtnetlink/message.ts";
import { E, isErrno, type RtSocket } from "../rtnetlink/socket.ts";

const SUBSYS_CTNETLINK = 1;
const GET = 1, DELETE = 2, STATISTICS = 5;
const CTA_STATS_GLOBAL_ENTRIES = 1;
/** linux/netfilter/nfnetlink_conntrack.h */
const CTA = { original: 1, reply: 2, status: 3, id: 12, zone: 18, filter: 25 };
/** The flow was announced by another one, as FTP's data by its control connection. */
const IPS_EXPECTED = 1;
const TUPLE = { ip: 1, proto: 2 };
const PROTO = { number: 1, sourcePort: 2, destinationPort: 3, icmpType: 5, icmpCode: 6, icmp6Type: 8, icmp6Code: 9 };
const FILTER = { original: 1, reply: 2 };
const filterFlag = { source: 1, destination: 2 };
/**
 * A look through the kernel's table costs some 20 ms however few flows there are, and so many flows some 10 ms to read. One
 * address has four places in a flow, and the kernel looks for one at a time.
 */
const flowsALook = 2_000;
const placesOfAnAddress = 4;
/** Some 10 ms. */
const atOnce = 1_000;

/** One direction of a flow, as its packets look. */
export interface FlowEnds {
  source: Ip;
  destination: Ip;
  /** 6 = TCP, 17 = UDP, … */
  protocol: number;
  /** 0 for protocols without ports. */
  sourcePort: number;
  destinationPort: number;
  icmp?: { type: number; code: number };
}

/** A flow that the kernel tracks. */
export interface Flow {
  family: Family;
  original: FlowEnds;
  reply: FlowEnds;
  /** Another flow announced it: RELATED to that. */
  expected: boolean;
  /** What names it to the kernel: tuple, id and zone as it gave them. */
  name: Uint8Array;
}

/**
 * Deletes the entries of all flows that have one of the addresses on either side of either direction, so that the next
 * packet is asked about anew. @param pause called between a thousand of them: others on the event loop get their turn. No such flow is fine. The event loop goes on while the kernel looks, and the socket is for
 * nothing else. @returns how many were deleted.
 * @throws Problem "kernel".
 */
export async function deleteFlowsOf(
  socket: RtSocket,
  addresses: readonly Ip[],
  pause: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  let deleted = 0;
  const count = countFlows(socket);
  if (count === 0) return 0;
  for (const family of [4, 6] as const) {
    const of = addresses.filter((a) => a.v === family);
    const flows = of.length > 0 ? await flowsOf(socket, family, of, count) : [];
    for (let i = 0; i < flows.length; i += atOnce) {
      if (i > 0) await pause();
      deleted += deleteFlows(socket, flows.slice(i, i + atOnce));
    }
  }
  return deleted;
}

/** Deletes these flows; one that is gone is fine. @returns how many were there. @throws Problem "kernel". */
export function deleteFlows(socket: RtSocket, flows: readonly Flow[]): number {
  const answers = socket.batch(flows.map(({ family, name }) => request(DELETE, family, name)));
  const refused = answers.find(({ error }) => error && !isErrno(error, E.NOENT));
  if (refused) throw new Problem({ code: "kernel", what: "a tracked flow was not deleted", cause: refused.error });
  return answers.filter(({ error }) => !error).length;
}

/** All flows of a family. @throws Problem "kernel". */
export async function listFlows(socket: RtSocket, family: Family): Promise<Flow[]> {
  return (await dump(socket, family)).map((m) => flowOf(m, family)).filter((f) => f !== undefined);
}

/** Flows of both families in the socket's namespace. */
function countFlows(socket: RtSocket): number {
  const [answer] = socket.batch([request(STATISTICS, 4)]);
  const count = answer?.messages[0] && attributesOf(answer.messages[0].body, 4).get(CTA_STATS_GLOBAL_ENTRIES);
  // A kernel that does not say may have any number.
  return count && count.length >= 4 ? new DataView(count.buffer, count.byteOffset).getUint32(0) : Infinity;
}

async function flowsOf(socket: RtSocket, family: Family, addresses: readonly Ip[], count: number): Promise<Flow[]> {
  const sought = new Set(addresses.map((a) => a.n));
  const looks = addresses.length * placesOfAnAddress;
  const messages = looks - 1 < count / flowsALook
    ? await filtered(socket, family, addresses)
    : await dump(socket, family);
  const found = new Map<string, Flow>();
  for (const message of messages) {
    const flow = flowOf(message, family);
    // An older kernel ignores the filter, and a flow may match it twice.
    if (flow && hasOneOf(flow, sought)) found.set(String(flow.name), flow);
  }
  return [...found.values()];
}

const hasOneOf = ({ original, reply }: Flow, sought: ReadonlySet<bigint>): boolean =>
  [original.source, original.destination, reply.source, reply.destination].some((ip) => sought.has(ip.n));

/** The kernel looks for one address in one place at a time (Linux 5.8; before that it answers with all flows). */
async function filtered(socket: RtSocket, family: Family, addresses: readonly Ip[]): Promise<Message[]> {
  const ends = [["source", family === 4 ? 1 : 3], ["destination", family === 4 ? 2 : 4]] as const;
  const found: Message[] = [];
  for (const address of addresses) {
    for (const way of ["original", "reply"] as const) {
      for (const [end, attr] of ends) {
        const tuple = nested(CTA[way], nested(TUPLE.ip, attribute(attr, ipBytes(address))));
        const flags = (side: typeof way) => attribute(FILTER[side], u32(side === way ? filterFlag[end] : 0));
        found.push(...await dump(socket, family, tuple, nested(CTA.filter, flags("original"), flags("reply"))));
      }
    }
  }
  return found;
}

const dump = (socket: RtSocket, family: Family, ...attributes: Uint8Array[]): Promise<Message[]> =>
  socket.dumpLater(request(GET, family, ...attributes));

function request(command: number, family: Family, ...attributes: Uint8Array[]): Request {
  const head = new Uint8Array([addressFamily(family), 0, 0, 0]);
  return { type: (SUBSYS_CTNETLINK << 8) | command, flags: NLM.REQUEST, body: join(head, ...attributes) };
}

function flowOf({ body }: Message, family: Family): Flow | undefined {
  const found = attributesOf(body, 4);
  const original = endsOf(found.get(CTA.original)), reply = endsOf(found.get(CTA.reply));
  if (!original || !reply || original.source.v !== family) return undefined;
  const kept = [CTA.id, CTA.zone].flatMap((type) => found.has(type) ? [attribute(type, found.get(type)!)] : []);
  const status = found.get(CTA.status), expected = status !== undefined && (status.at(-1)! & IPS_EXPECTED) !== 0;
  return {
    family,
    original,
    reply,
    expected,
    name: join(attribute(CTA.original | 0x8000, found.get(CTA.original)!), ...kept),
  };
}

function endsOf(tuple: Uint8Array | undefined): FlowEnds | undefined {
  if (!tuple) return undefined;
  const parts = attributesOf(tuple);
  const ip = attributesOf(parts.get(TUPLE.ip) ?? new Uint8Array());
  const proto = attributesOf(parts.get(TUPLE.proto) ?? new Uint8Array());
  const source = readIp(ip.get(1) ?? ip.get(3)), destination = readIp(ip.get(2) ?? ip.get(4));
  if (!source || !destination) return undefined;
  const port = (bytes: Uint8Array | undefined) => (bytes && bytes.length >= 2 ? bytes[0]! * 256 + bytes[1]! : 0);
  return {
    source,
    destination,
    protocol: proto.get(PROTO.number)?.[0] ?? 0,
    sourcePort: port(proto.get(PROTO.sourcePort)),
    destinationPort: port(proto.get(PROTO.destinationPort)),
    ...icmpOf(proto),
  };
}

function icmpOf(proto: Map<number, Uint8Array>): Pick<FlowEnds, "icmp"> {
  const type = proto.get(PROTO.icmpType) ?? proto.get(PROTO.icmp6Type);
  const code = proto.get(PROTO.icmpCode) ?? proto.get(PROTO.icmp6Code);
  return type && code ? { icmp: { type: type[0]!, code: code[0]! } } : {};
}
