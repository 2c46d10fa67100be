import { Problem } from "../../lib/problem.ts";
import type { Port } from "../reconcile.ts";
import {
  attribute,
  attributesOf,
  join,
  macBytes,
  type Message,
  nested,
  NLM,
  readMac,
  readText,
  readU32,
  type Request,
  text,
  u32,
} from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

/** Message numbers of links (linux/rtnetlink.h). */
export const linkType = { created: 16, deleted: 17, get: 18, set: 19 };
const IFF_UP = 1;
const IFF_LOOPBACK = 8;
/** Attributes of links (linux/if_link.h). */
export const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  master: 10,
  operState: 16,
  linkInfo: 18,
  group: 27,
  netnsFd: 28,
  extMask: 29,
  txQueues: 31,
  rxQueues: 32,
  linkNetnsId: 37,
  targetNetnsId: 46,
};
/** Attributes of a link's kind. */
export const INFO = { kind: 1, data: 2 };
const VETH_PEER = 1;
const SKIP_STATISTICS = 8;

/** A network interface as the kernel describes it. */
export interface Link {
  index: number;
  name: string;
  /** "veth", "bridge", "vxlan", …; undefined for hardware and lo. */
  kind: string | undefined;
  /** `aa:bb:cc:dd:ee:ff`; undefined when the link has none. */
  mac: string | undefined;
  mtuBytes: number;
  /** IFF_UP: the administrator's wish. */
  up: boolean;
  /** IFLA_OPERSTATE is up or unknown: packets can pass (RFC 2863). */
  operUp: boolean;
  loopback: boolean;
  group: number;
  /** Index of the bridge or bond it is a port of. */
  master: number | undefined;
  /** IFLA_LINK: the other end of a veth, the parent of a VLAN; an index in namespace `peerNsid` when that is set. */
  peerIndex: number | undefined;
  peerNsid: number | undefined;
}

/** `struct ifinfomsg`: which link, and which flags to change. */
export function ifinfo(index = 0, flags = 0, change = 0): Uint8Array {
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return out;
}

/** A link message's content; undefined for those of other families (bridge ports). */
export function decodeLink(message: Message): Link | undefined {
  const { body } = message;
  if (body[0] !== 0) return undefined;
  const view = new DataView(body.buffer, body.byteOffset);
  const flags = view.getUint32(8, true);
  const found = attributesOf(body, 16);
  const info = found.get(IFLA.linkInfo);
  const nsid = readU32(found.get(IFLA.linkNetnsId));
  const operState = found.get(IFLA.operState)?.[0] ?? 0;
  return {
    index: view.getInt32(4, true),
    name: readText(found.get(IFLA.name)) ?? "",
    kind: info && readText(attributesOf(info).get(INFO.kind)),
    mac: readMac(found.get(IFLA.address)),
    mtuBytes: readU32(found.get(IFLA.mtu)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    operUp: operState === 0 || operState === 6,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    group: readU32(found.get(IFLA.group)) ?? 0,
    master: readU32(found.get(IFLA.master)),
    peerIndex: readU32(found.get(IFLA.link)),
    peerNsid: nsid === undefined ? undefined : nsid | 0,
  };
}

/** All links of the socket's namespace, by index. @throws Problem "kernel". */
export function listLinks(socket: RtSocket): Map<number, Link> {
  const body = join(ifinfo(), attribute(IFLA.extMask, u32(SKIP_STATISTICS)));
  const links = socket.dump({ type: linkType.get, flags: 0, body }).map(decodeLink);
  return new Map(links.flatMap((link) => (link ? [[link.index, link] as const] : [])));
}

/** One link by name or index; undefined when there is none. @throws Problem "kernel". */
export function getLink(socket: RtSocket, which: string | number): Link | undefined {
  const answer = socket.batch([linkQuery(which)])[0]!;
  if (isErrno(answer.error, E.NODEV)) return undefined;
  if (answer.error) throw new Problem({ code: "kernel", what: `link ${which} cannot be read`, cause: answer.error });
  return answer.messages.map(decodeLink)[0];
}

/** Asks for one link by name or index; the answer's message is a link. */
export function linkQuery(which: string | number): Request {
  const by = typeof which === "string" ? [attribute(IFLA.name, text(which))] : [];
  const head = ifinfo(typeof which === "number" ? which : 0);
  return { type: linkType.get, flags: 0, body: join(head, attribute(IFLA.extMask, u32(SKIP_STATISTICS)), ...by) };
}

/**
 * The other end of a veth, in whatever namespace of this host it is; undefined when it is gone or cannot be looked at.
 * @throws Problem "kernel".
 */
export function getPeer(socket: RtSocket, link: Link): Link | undefined {
  if (link.peerIndex === undefined) return undefined;
  if (link.peerNsid === undefined) return getLink(socket, link.peerIndex);
  const where = attribute(IFLA.targetNetnsId, u32(link.peerNsid >>> 0));
  const { error, messages } = socket.batch([{
    type: linkType.get,
    flags: 0,
    body: join(ifinfo(link.peerIndex), attribute(IFLA.extMask, u32(SKIP_STATISTICS)), where),
  }])[0]!;
  return error ? undefined : messages.map(decodeLink)[0];
}

/** One end of a new pair. */
export interface VethEnd {
  name: string;
  /** The kernel chooses when absent. */
  mac?: string;
  /** Namespace in which it is born; the socket's own when absent. */
  netnsFd?: number;
}

/** Creates a pair, both ends down. `mtuBytes` and `queues` hold for both; the kernel's defaults when absent or 0. */
export function createVeth(host: VethEnd, peer: VethEnd, both: { mtuBytes?: number; queues?: number } = {}): Request {
  const end = (e: VethEnd) => [
    attribute(IFLA.name, text(e.name)),
    ...(e.mac ? [attribute(IFLA.address, macBytes(e.mac))] : []),
    ...(both.mtuBytes ? [attribute(IFLA.mtu, u32(both.mtuBytes))] : []),
    ...(both.queues ? [attribute(IFLA.txQueues, u32(both.queues)), attribute(IFLA.rxQueues, u32(both.queues))] : []),
    ...(e.netnsFd === undefined ? [] : [attribute(IFLA.netnsFd, u32(e.netnsFd))]),
  ];
  const info = nested(
    IFLA.linkInfo,
    attribute(INFO.kind, text("veth")),
    nested(INFO.data, attribute(VETH_PEER, join(ifinfo(), ...end(peer)))),
  );
  return { type: linkType.created, flags: NLM.CREATE | NLM.EXCL, body: join(ifinfo(), ...end(host), info) };
}

/** What setLink() can change; absent members stay. */
export interface LinkSettings {
  up?: boolean;
  mac?: string;
  mtuBytes?: number;
  group?: number;
}

/** Changes a link by index. */
export function setLink(index: number, settings: LinkSettings): Request {
  const { up, mac, mtuBytes, group } = settings;
  const head = up === undefined ? ifinfo(index) : ifinfo(index, up ? IFF_UP : 0, IFF_UP);
  const parts = [
    ...(mac ? [attribute(IFLA.address, macBytes(mac))] : []),
    ...(mtuBytes ? [attribute(IFLA.mtu, u32(mtuBytes))] : []),
    ...(group === undefined ? [] : [attribute(IFLA.group, u32(group))]),
  ];
  return { type: linkType.set, flags: 0, body: join(head, ...parts) };
}

/** Deletes one link; of a veth the other end goes too. */
export const deleteLink = (index: number): Request => ({ type: linkType.deleted, flags: 0, body: ifinfo(index) });

/** Deletes all links of a group in one go: one wait of the kernel instead of one each. */
export const deleteGroup = (group: number): Request => ({
  type: linkType.deleted,
  flags: 0,
  body: join(ifinfo(), attribute(IFLA.group, u32(group))),
});

/** State of a link that we decide about. */
export interface LinkState {
  up: boolean;
  /** Undefined = whatever it is. */
  mtuBytes?: number;
}

/**
 * Administrative state and MTU of the links whose indexes `wanted` answers. It makes and deletes no link: an index without a link
 * fails, one that is no longer wanted is left as it is.
 */
export function linkStatePort(socket: RtSocket, wanted: () => Iterable<number>): Port<number, LinkState> {
  const read = (indexes: readonly number[]) => {
    const links = socket.batch(indexes.map(linkQuery)).flatMap((a) => a.messages).map(decodeLink);
    return Promise.resolve(
      new Map(links.flatMap((l) => (l ? [[l.index, { up: l.up, mtuBytes: l.mtuBytes }] as const] : []))),
    );
  };
  return {
    name: "link state",
    list: () => read([...wanted()]),
    read,
    same: (have, want) => have.up === want.up && (want.mtuBytes === undefined || have.mtuBytes === want.mtuBytes),
    apply(put) {
      const answers = socket.batch(put.map(([index, state]) => setLink(index, state)));
      return Promise.resolve(new Map(answers.flatMap(({ error }, i) => (error ? [[put[i]![0], error]] : []))));
    },
  };
}
