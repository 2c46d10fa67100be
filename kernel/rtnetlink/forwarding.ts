import { formatIp, type Ip, sameIp } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import {
  attribute,
  attributesOf,
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
import { NDA, neighbourType, PERMANENT } from "./neighbour.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

const AF_BRIDGE = 7;
const NTF_SELF = 2;

/** An entry of a VXLAN's forwarding table: frames to `mac` travel to the host `ip`. */
export interface Forwarding {
  /** Index of the VXLAN device. */
  index: number;
  mac: string;
  ip: Ip;
}

/** A forwarding message's content; undefined for other families and for entries that lead to no host. */
export function decodeForwarding(message: Message): (Forwarding & { permanent: boolean }) | undefined {
  const { body } = message;
  if (body[0] !== AF_BRIDGE) return undefined;
  const found = attributesOf(body, 12);
  const ip = readIp(found.get(NDA.ip)), mac = readMac(found.get(NDA.mac));
  if (!ip || !mac) return undefined;
  return { index: readU32(body.subarray(4, 8))!, mac, ip, permanent: ((body[8]! | (body[9]! << 8)) & PERMANENT) !== 0 };
}

/** The permanent entries of one device. @throws Problem "kernel". */
export function listForwarding(socket: RtSocket, index: number): Forwarding[] {
  const body = join(new Uint8Array([AF_BRIDGE, 0, 0, 0]), u32(index), new Uint8Array(4));
  return socket.dump({ type: neighbourType.get, flags: 0, body }).map(decodeForwarding)
    .filter((f) => f !== undefined).filter((f) => f.permanent && f.index === index)
    .map(({ index, mac, ip }) => ({ index, mac, ip }));
}

/** Sets the host behind a MAC. */
export const setForwarding = (f: Forwarding): Request => ({
  type: neighbourType.created,
  flags: NLM.CREATE | NLM.REPLACE,
  body: forwardingBody(f),
});

/** Removes an entry. */
export const removeForwarding = (f: Forwarding): Request => ({
  type: neighbourType.deleted,
  flags: 0,
  body: forwardingBody(f),
});

function forwardingBody({ index, mac, ip }: Forwarding): Uint8Array {
  return join(
    new Uint8Array([AF_BRIDGE, 0, 0, 0]),
    u32(index),
    u16(PERMANENT),
    new Uint8Array([NTF_SELF, 0]),
    attribute(NDA.mac, macBytes(mac)),
    ipAttribute(NDA.ip, ip),
  );
}

/** Key of the forwarding port: `7 66:aa:bb:cc:dd:03`. */
export const forwardingKey = (f: { index: number; mac: string }): string => `${f.index} ${f.mac.toLowerCase()}`;

/** Forwarding tables of the devices that `devices` answers: all permanent entries there are ours. */
export function forwardingPort(socket: RtSocket, devices: () => Iterable<number>): Port<string, Forwarding> {
  const list = () => {
    const found = new Map<string, Forwarding[]>();
    for (const entry of [...devices()].flatMap((index) => listForwarding(socket, index))) {
      const key = forwardingKey(entry);
      found.set(key, [...found.get(key) ?? [], entry]);
    }
    return found;
  };
  return {
    name: "forwarding",
    list() {
      // A MAC may have several hosts, which we never want: the second is listed under a key of its own.
      const entries = [...list()].flatMap(([key, all]) =>
        all.map((f, i) => [i === 0 ? key : `${key} ${formatIp(f.ip)}`, f] as const)
      );
      return Promise.resolve(new Map(entries));
    },
    same: (have, want) => have.mac === want.mac.toLowerCase() && sameIp(have.ip, want.ip),
    apply(put, remove) {
      const have = remove.length > 0 ? list() : new Map<string, Forwarding[]>();
      const entryOf = (key: string) => {
        const [index, mac, ip] = key.split(" ");
        const all = have.get(`${index} ${mac}`) ?? [];
        return ip === undefined ? all[0] : all.find((f) => formatIp(f.ip) === ip);
      };
      const steps = [
        ...remove.flatMap((key) => {
          const entry = entryOf(key);
          return entry ? [{ key, request: removeForwarding(entry) }] : [];
        }),
        ...put.map(([key, f]) => ({ key, request: setForwarding(f) })),
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
