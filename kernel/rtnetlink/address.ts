import { formatIp, type Ip } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  familyOf,
  ipAttribute,
  join,
  type Message,
  NLM,
  readIp,
  readU32,
  type Request,
  u32,
} from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

/** Message numbers of addresses. */
export const addressType = { created: 20, deleted: 21, get: 22 };
const IFA = { address: 1, local: 2, flags: 8 };
/** Bits of Address.flags (IFA_F_*). */
export const addressFlag = { temporary: 0x01, noDad: 0x02, deprecated: 0x20, tentative: 0x40, permanent: 0x80 };

/** An address of an interface. */
export interface Address {
  /** Index of the interface. */
  index: number;
  ip: Ip;
  /** Prefix length. */
  len: number;
  /** RT_SCOPE: 0 universe, 253 link, 254 host. */
  scope: number;
  /** See addressFlag. */
  flags: number;
}

/** An address message's content; undefined for other families. */
export function decodeAddress(message: Message): Address | undefined {
  const { body } = message;
  const found = attributesOf(body, 8);
  // IPv4 names its own end LOCAL, and ADDRESS is the peer's; IPv6 has only ADDRESS unless there is a peer.
  const ip = readIp(found.get(IFA.local) ?? found.get(IFA.address));
  if (familyOf(body[0]) === undefined || !ip) return undefined;
  return {
    index: readU32(body.subarray(4, 8))!,
    ip,
    len: body[1]!,
    scope: body[3]!,
    flags: readU32(found.get(IFA.flags)) ?? body[2]!,
  };
}

/** All addresses of the socket's namespace, both families, in the kernel's order. @throws Problem "kernel". */
export function listAddresses(socket: RtSocket): Address[] {
  return socket.dump({ type: addressType.get, flags: 0, body: new Uint8Array(8) })
    .map(decodeAddress).filter((a) => a !== undefined);
}

/** Adds an address, or refreshes the one that is there. IPv6 skips duplicate detection: it is usable at once. */
export function addAddress(a: Pick<Address, "index" | "ip" | "len"> & { scope?: number }): Request {
  const flags = a.ip.v === 6 ? [attribute(IFA.flags, u32(addressFlag.noDad))] : [];
  return { type: addressType.created, flags: NLM.CREATE | NLM.REPLACE, body: join(addressBody(a), ...flags) };
}

/** Removes an address. */
export const removeAddress = (a: Pick<Address, "index" | "ip" | "len">): Request => ({
  type: addressType.deleted,
  flags: 0,
  body: addressBody(a),
});

function addressBody(a: Pick<Address, "index" | "ip" | "len"> & { scope?: number }): Uint8Array {
  const head = new Uint8Array([addressFamily(a.ip.v), a.len, 0, a.scope ?? 0]);
  return join(head, u32(a.index), ipAttribute(IFA.local, a.ip), ipAttribute(IFA.address, a.ip));
}

/** Key of the address port: `3 10.0.0.1/32`. */
export const addressKey = (a: Pick<Address, "index" | "ip" | "len">): string => `${a.index} ${formatIp(a.ip)}/${a.len}`;

/** Addresses of interfaces of ours. @param owns which of the kernel's addresses are ours. */
export function addressPort(socket: RtSocket, owns: (a: Address) => boolean): Port<string, Address> {
  const list = () => new Map(listAddresses(socket).filter(owns).map((a) => [addressKey(a), a]));
  return {
    name: "addresses",
    list: () => Promise.resolve(list()),
    same: (have, want) => have.scope === want.scope,
    apply(put, remove) {
      const have = remove.length > 0 ? list() : new Map<string, Address>();
      const steps = [
        ...remove.flatMap((key) => have.has(key) ? [{ key, request: removeAddress(have.get(key)!) }] : []),
        ...put.map(([key, a]) => ({ key, request: addAddress(a) })),
      ];
      const failed = new Map<string, Error>();
      socket.batch(steps.map((s) => s.request)).forEach(({ error }, i) => {
        const gone = steps[i]!.request.type === addressType.deleted && isErrno(error, E.ADDRNOTAVAIL, E.NODEV);
        if (error && !gone) failed.set(steps[i]!.key, error);
      });
      return Promise.resolve(failed);
    },
  };
}
