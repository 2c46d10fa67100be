import { type Family, formatIp, type Ip } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  familyOf,
  ipAttribute,
  join,
  macBytes,
  type Message,
  NLM,
  readIp,
  readMac,
  readU32,
  type Request,
  u16,
  u32,
} from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

/** Message numbers of neighbours. */
export const neighbourType = { created: 28, deleted: 29, get: 30 };
/** Attributes of a neighbour (linux/neighbour.h). */
export const NDA = { ip: 1, mac: 2 };
/** State of an entry that nobody asks for again. */
export const PERMANENT = 0x80;
const NTF_PROXY = 8;

/** Who has an address on an interface. Forwarding entries of bridges and VXLAN (family AF_BRIDGE) are another object. */
export interface Neighbour {
  /** Index of the interface. */
  index: number;
  ip: Ip;
  /** Undefined while it is not known. */
  mac: string | undefined;
  /** Never forgotten by the kernel. */
  permanent: boolean;
  /** The host answers for it instead of asking. */
  proxy: boolean;
}

/** A neighbour message's content; undefined for other families. */
export function decodeNeighbour(message: Message): Neighbour | undefined {
  const { body } = message;
  const found = attributesOf(body, 12);
  const ip = readIp(found.get(NDA.ip));
  if (familyOf(body[0]) === undefined || !ip) return undefined;
  return {
    index: readU32(body.subarray(4, 8))!,
    ip,
    mac: readMac(found.get(NDA.mac)),
    permanent: (body[8]! & PERMANENT) !== 0,
    proxy: (body[10]! & NTF_PROXY) !== 0,
  };
}

/** All neighbours of a family, without proxy entries. @throws Problem "kernel". */
export function listNeighbours(socket: RtSocket, family: Family): Neighbour[] {
  const body = new Uint8Array(12);
  body[0] = addressFamily(family);
  return socket.dump({ type: neighbourType.get, flags: 0, body }).map(decodeNeighbour)
    .filter((n) => n !== undefined);
}

/** Makes a permanent entry, or turns the one that is there into it. */
export const setNeighbour = (n: { index: number; ip: Ip; mac: string }): Request => ({
  type: neighbourType.created,
  flags: NLM.CREATE | NLM.REPLACE,
  body: join(neighbourBody(n), attribute(NDA.mac, macBytes(n.mac))),
});

/** Removes an entry. */
export const removeNeighbour = (n: { index: number; ip: Ip }): Request => ({
  type: neighbourType.deleted,
  flags: 0,
  body: neighbourBody(n),
});

function neighbourBody(n: { index: number; ip: Ip }): Uint8Array {
  const family = new Uint8Array([addressFamily(n.ip.v), 0, 0, 0]);
  return join(family, u32(n.index), u16(PERMANENT), new Uint8Array(2), ipAttribute(NDA.ip, n.ip));
}

/** What we decide about a neighbour. */
export interface StaticNeighbour {
  index: number;
  ip: Ip;
  mac: string;
}

/** Key of the neighbour port: `3 10.65.0.2`. */
export const neighbourKey = (n: { index: number; ip: Ip }): string => `${n.index} ${formatIp(n.ip)}`;

/** Permanent neighbours of one family that are ours. @param owns asked for permanent entries only. */
export function neighbourPort(
  socket: RtSocket,
  family: Family,
  owns: (n: Neighbour) => boolean,
): Port<string, StaticNeighbour> {
  const list = () =>
    new Map(
      listNeighbours(socket, family).filter((n) => n.permanent && !n.proxy && owns(n))
        .map((n) => [neighbourKey(n), { index: n.index, ip: n.ip, mac: n.mac ?? "" }]),
    );
  return {
    name: `neighbours ip${family}`,
    list: () => Promise.resolve(list()),
    same: (have, want) => have.mac === want.mac.toLowerCase(),
    apply(put, remove) {
      const have = remove.length > 0 ? list() : new Map<string, StaticNeighbour>();
      const steps = [
        ...remove.flatMap((key) => have.has(key) ? [{ key, request: removeNeighbour(have.get(key)!) }] : []),
        ...put.map(([key, n]) => ({ key, request: setNeighbour(n) })),
      ];
      const failed = new Map<string, Error>();
      socket.batch(steps.map((s) => s.request)).forEach(({ error }, i) => {
        const gone = steps[i]!.request.type === neighbourType.deleted && isErrno(error, E.NOENT, E.NODEV);
        if (error && !gone) failed.set(steps[i]!.key, error);
      });
      return Promise.resolve(failed);
    },
  };
}
