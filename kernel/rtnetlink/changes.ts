import { Problem } from "../../lib/problem.ts";
import { E, KernelError, lastError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import { type Address, addressType, decodeAddress } from "./address.ts";
import { decodeForwarding, type Forwarding } from "./forwarding.ts";
import { decodeLink, type Link, linkQuery, linkType } from "./link.ts";
import { attributesOf, decodeMessages, encodeRequests, type Message, readU32 } from "./message.ts";
import { decodeNeighbour, type Neighbour, neighbourType } from "./neighbour.ts";
import { decodeRoute, type Route, routeTypes } from "./route.ts";
import { decodeRule, type Rule, ruleType } from "./rule.ts";
import { openNetlink } from "./socket.ts";

/** What changed. `removed` tells that the object is as it was before it went. */
export type Change =
  /** It is the first answer, or notifications were lost: look at all of it. */
  | { what: "everything" }
  | { what: "link"; removed: boolean; link: Link }
  | { what: "address"; removed: boolean; address: Address }
  | { what: "route"; removed: boolean; route: Route }
  | { what: "rule"; removed: boolean; rule: Rule }
  | { what: "neighbour"; removed: boolean; neighbour: Neighbour }
  | { what: "forwarding"; removed: boolean; forwarding: Forwarding }
  /** Forwarding, rp_filter, proxy_arp or proxy_ndp of an interface; -1 = all, -2 = default. */
  | { what: "sysctl"; index: number };

/** Multicast groups of each sort (RTNLGRP_*). */
const groups = { link: [1], address: [5, 9], route: [7, 11], neighbour: [3], rule: [8, 19], sysctl: [24, 25] };

/** How changes() listens. */
export interface ChangesOptions {
  /** Default: all of them. */
  of?: (keyof typeof groups)[];
  /** Namespace; default the calling thread's own. */
  netns?: Netns;
  /** Receive buffer. Default 8 MiB, which holds a burst of 10,000 routes; less for tests. */
  receiveBytes?: number;
}

const netconf = { created: 80, deleted: 81 };
const NETCONFA_IFINDEX = 1;
const MSG_DONTWAIT = 0x40;
/** Messages taken before the event loop gets its turn. */
const drainLimit = 512;

/**
 * Notifications as one iterator, each value what came in one go, in order. The first value is always `everything`:
 * subscribed, now list. Ends when `signal` is aborted; the loop must be awaited then, because the socket closes in it.
 * Each iterator holds one of Deno's 32 pool threads while it waits: a handful in a process, never one per pod.
 * @throws Problem "kernel" when the socket fails.
 */
export async function* changes(signal: AbortSignal, options: ChangesOptions = {}): AsyncGenerator<Change[]> {
  if (signal.aborted) return;
  const fd = open(options);
  const wake = () => void send(fd);
  signal.addEventListener("abort", wake, { once: true });
  try {
    yield [{ what: "everything" }];
    const buffer = new Uint8Array(64 * 1024);
    while (!signal.aborted) {
      const found = drain(fd, buffer);
      if (found.length > 0) yield found;
      if (found.length > 0 || signal.aborted) continue;
      const n = Number(await libc().recvLater(fd, buffer, BigInt(buffer.length), 0));
      if (signal.aborted) return;
      // The pool thread's errno cannot be read: ENOBUFS is what it can be, and looking at everything is never wrong.
      yield n < 0 ? [{ what: "everything" }] : decode(buffer.subarray(0, n));
    }
  } finally {
    signal.removeEventListener("abort", wake);
    libc().close(fd);
  }
}

function open({ of, netns, receiveBytes }: ChangesOptions): number {
  const wanted = (of ?? Object.keys(groups) as (keyof typeof groups)[]).flatMap((name) => groups[name]);
  const openHere = () => openNetlink(wanted, receiveBytes ?? 8 << 20);
  try {
    return netns ? inNetns(netns, openHere) : openHere();
  } catch (cause) {
    if (!(cause instanceof KernelError)) throw cause;
    throw new Problem({ code: "kernel", what: "kernel changes cannot be followed", where: netns?.path, cause });
  }
}

/** Any request wakes a waiting recv() with its answer; closing the descriptor would not. */
function send(fd: number): void {
  const bytes = encodeRequests([linkQuery(1)], 1);
  libc().send(fd, bytes, BigInt(bytes.length), 0);
}

/** All that is queued, without waiting. */
function drain(fd: number, buffer: Uint8Array<ArrayBuffer>): Change[] {
  const found: Change[] = [];
  for (let i = 0; i < drainLimit; i++) {
    const n = Number(libc().recv(fd, buffer, BigInt(buffer.length), MSG_DONTWAIT));
    if (n >= 0) {
      found.push(...decode(buffer.subarray(0, n)));
      continue;
    }
    const error = lastError();
    if (error.errno === E.AGAIN) break;
    if (error.errno !== E.NOBUFS) throw new Problem({ code: "kernel", what: "kernel changes broke off", cause: error });
    found.push({ what: "everything" });
  }
  return found;
}

/** The changes of what one recv() brought. The objects keep nothing of `bytes`. */
export const decode = (bytes: Uint8Array): Change[] =>
  [...decodeMessages(bytes)].map(changeOf).filter((c) => c !== undefined);

function changeOf(message: Message): Change | undefined {
  const removed = message.type % 4 === 1;
  const { type } = message;
  if (type === linkType.created || type === linkType.deleted) {
    const link = decodeLink(message);
    return link && { what: "link", removed, link };
  }
  if (type === addressType.created || type === addressType.deleted) {
    const address = decodeAddress(message);
    return address && { what: "address", removed, address };
  }
  if (type === routeTypes.created || type === routeTypes.deleted) {
    const route = decodeRoute(message);
    return route && { what: "route", removed, route };
  }
  if (type === neighbourType.created || type === neighbourType.deleted) {
    const neighbour = decodeNeighbour(message);
    if (neighbour) return { what: "neighbour", removed, neighbour };
    const forwarding = decodeForwarding(message);
    return forwarding && { what: "forwarding", removed, forwarding };
  }
  if (type === ruleType.created || type === ruleType.deleted) {
    const rule = decodeRule(message);
    return rule && { what: "rule", removed, rule };
  }
  if (type === netconf.created || type === netconf.deleted) {
    const index = readU32(attributesOf(message.body, 4).get(NETCONFA_IFINDEX));
    return index === undefined ? undefined : { what: "sysctl", index: index | 0 };
  }
  return undefined;
}
