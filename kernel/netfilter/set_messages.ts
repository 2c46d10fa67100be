import { Buffer } from "node:buffer";
import type { Family } from "../../lib/ip.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  decodeMessages,
  familyOf,
  join,
  type Message,
  nested,
  NLM,
  readText,
  type Request,
  text,
  u8,
} from "../rtnetlink/message.ts";
import { E, isErrno, KernelError, type RtSocket } from "../rtnetlink/socket.ts";
import { decodeMembers, encodeMember, type SetType } from "./set_members.ts";

/** nfnetlink's socket protocol. */
export const NETLINK_NETFILTER = 12;
const SUBSYS_IPSET = 6;
const CMD = { create: 2, destroy: 3, swap: 6, list: 7, add: 9, del: 10, type: 13 };
const ATTR = { protocol: 1, name: 2, type: 3, revision: 4, family: 5, flags: 6, data: 7, adt: 8, lineno: 9 };
/** Within DATA of a set. */
const SET = { hashsize: 18, maxelem: 19, elements: 24, references: 25 };
const NET_BYTEORDER = 0x4000;
const LIST_HEADER = 4;
const PROTOCOL = 6;

/** A set in the kernel without its members. */
export interface SetHeader {
  name: string;
  /** `hash:net`; types that we never make too. */
  type: string;
  family: Family | undefined;
  maxelem: number | undefined;
  elements: number;
  /** Rules and lists that use it. */
  references: number;
}

const be32 = (n: number) => new Uint8Array([n >>> 24, n >>> 16, n >>> 8, n]);
const readBe32 = (b: Uint8Array | undefined) =>
  b && b.length >= 4 ? new DataView(b.buffer, b.byteOffset, 4).getUint32(0, false) : undefined;

function request(command: number, flags: number, family: Family, ...attributes: Uint8Array[]): Request {
  const head = new Uint8Array([addressFamily(family), 0, 0, 0]);
  return {
    type: (SUBSYS_IPSET << 8) | command,
    flags,
    body: join(head, attribute(ATTR.protocol, u8(PROTOCOL)), ...attributes),
  };
}

const nameAttribute = (name: string) => attribute(ATTR.name, text(name));

/**
 * Buckets of a new set. The kernel makes more when they fill, and walks all of them for each listing of headers: the
 * default of 1,024 costs eight microseconds a set, 64 less than one.
 */
export const hashSize = (members: number): number => 2 ** Math.ceil(Math.log2(Math.max(64, members / 4)));

/** Makes a set for so many members at first. @param revision of the type, from newestRevision(). */
export const createSet = (
  set: { name: string; type: SetType; family: Family; maxelem: number; members: number },
  revision: number,
): Request =>
  request(
    CMD.create,
    NLM.CREATE | NLM.EXCL,
    set.family,
    nameAttribute(set.name),
    attribute(ATTR.type, text(set.type)),
    attribute(ATTR.revision, u8(revision)),
    attribute(ATTR.family, u8(addressFamily(set.family))),
    nested(
      ATTR.data,
      attribute(SET.hashsize | NET_BYTEORDER, be32(hashSize(set.members))),
      attribute(SET.maxelem | NET_BYTEORDER, be32(set.maxelem)),
    ),
  );

/** Removes a set that nothing uses. */
export const destroySet = (name: string, family: Family): Request =>
  request(CMD.destroy, 0, family, nameAttribute(name));

/** Adds a member; one that is there already is no error. @param member as memberText() gives it. */
export const addMember = (name: string, family: Family, member: string): Request =>
  request(CMD.add, 0, family, nameAttribute(name), encodeMember(family, member), lineNumber);

/** Removes a member; one that is not there is no error. */
export const removeMember = (name: string, family: Family, member: string): Request =>
  request(CMD.del, 0, family, nameAttribute(name), encodeMember(family, member), lineNumber);

/** The kernel wants a line number with each change, as ipset would have it. */
const lineNumber = attribute(ATTR.lineno, new Uint8Array(4));

/** The newest revision of a type that the kernel has. @throws Problem "kernel" when it has no such type. */
export function newestRevision(socket: RtSocket, type: SetType, family: Family): number {
  const answers = socket.one(
    request(
      CMD.type,
      0,
      family,
      attribute(ATTR.type, text(type)),
      attribute(ATTR.family, u8(addressFamily(family))),
    ),
    `IP sets of type ${type}`,
  );
  return attributesOf(answers[0]!.body, 4).get(ATTR.revision)![0]!;
}

/**
 * A listing of all sets of both families without members, as it came: readHeaders() reads it, and to compare two costs
 * far less than to read one. @throws Problem "kernel".
 */
export function listHeaders(socket: RtSocket): Uint8Array {
  const flags = attribute(ATTR.flags | NET_BYTEORDER, be32(LIST_HEADER));
  return socket.dumpBytes(request(CMD.list, 0, 4, flags));
}

/** True when two listings show the same. */
export const sameListing = (a: Uint8Array, b: Uint8Array): boolean => a === b || Buffer.compare(a, b) === 0;

/** The sets in a listing. */
export const readHeaders = (listing: Uint8Array): SetHeader[] =>
  [...decodeMessages(listing)].filter((m) => m.type >> 8 === SUBSYS_IPSET).map(headerOf);

function headerOf({ body }: Message): SetHeader {
  const found = attributesOf(body, 4);
  const data = attributesOf(found.get(ATTR.data) ?? new Uint8Array());
  return {
    name: readText(found.get(ATTR.name)) ?? "",
    type: readText(found.get(ATTR.type)) ?? "",
    family: familyOf(found.get(ATTR.family)?.[0]),
    maxelem: readBe32(data.get(SET.maxelem)),
    elements: readBe32(data.get(SET.elements)) ?? 0,
    references: readBe32(data.get(SET.references)) ?? 0,
  };
}

/** The members of a set, as memberText() gives them; undefined when it does not exist. @throws Problem "kernel". */
export function listMembers(socket: RtSocket, name: string, type: SetType, family: Family): Set<string> | undefined {
  const none = { set: false };
  const messages: Message[] = socket.dump(request(CMD.list, 0, family, nameAttribute(name)), E.NOENT);
  const members = new Set<string>();
  for (const { body } of messages) {
    none.set = true;
    const list = attributesOf(body, 4).get(ATTR.adt);
    if (list) { for (const member of decodeMembers(type, family, list)) members.add(member); }
  }
  return none.set ? members : undefined;
}

const sentences: Record<number, string> = {
  4099: "no more sets can be made",
  4100: "set is in use",
  4102: "sets are of different types",
  4103: "member is there, or is not there",
  4104: "prefix length cannot be held",
  4108: "set is in use",
  4352: "set is full",
  4354: "protocol cannot be held",
};

/** ipset's own errors begin at 4096; their meaning in words. */
export const setErrorText = (error: KernelError): string => sentences[error.errno] ?? error.message;

/** The set is not there. */
export const isMissing = (error: KernelError | undefined): boolean => isErrno(error, E.NOENT);
