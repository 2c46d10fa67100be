import { createHash } from "node:crypto";
import type { Port } from "../reconcile.ts";
import { deleteLink, getLink, type Link, listLinks, setLink } from "./link.ts";
import { E, isErrno, type KernelError, type RtSocket } from "./socket.ts";
import {
  closeIngress,
  listQdiscs,
  openIngress,
  type Qdisc,
  redirectIngress,
  removeBucket,
  sameBucket,
  setBucket,
  type TokenBucket,
} from "./traffic_control.ts";
import type { Request } from "./message.ts";
import { createTunnelDevice } from "./tunnel_device.ts";

/** Limits on a pod, seen from the pod: what it receives, and what it sends. */
export interface Bandwidth {
  /** Index of the pod's host side. */
  index: number;
  ingress: TokenBucket | undefined;
  egress: TokenBucket | undefined;
}

/** What the names of passages begin with; they are Calico's and ours alone. */
export const passagePrefix = "bwcali";

/**
 * Name of the device that a pod's own packets pass through, because only what leaves can be held back.
 * Source: Calico felix/dataplane/linux/qos/qos.go: a prefix and the beginning of SHA-512 of the interface's name.
 */
export const passageName = (interfaceName: string): string =>
  (passagePrefix + createHash("sha512").update(interfaceName).digest("hex")).slice(0, 15);

/**
 * Limits of pods' bandwidth by the name of the host side: a token bucket on it for what the pod receives, and one on a
 * device of kind ifb, to which what the pod sends makes a detour. Passages of interfaces that are gone are removed, too.
 * Source: Calico felix/dataplane/linux/qos_controls.go.
 * @param owns names of pods' host sides: every token bucket, and all filters of what comes in, are ours there.
 */
export function bandwidthPort(socket: RtSocket, owns: (name: string) => boolean): Port<string, Bandwidth> {
  return {
    name: "bandwidth",
    list: () => Promise.resolve(listBandwidths(socket, owns)),
    same: (have, want) =>
      have.index === want.index && sameBucket(have.ingress, want.ingress) && sameBucket(have.egress, want.egress),
    apply(put, remove) {
      const failed = new Map<string, Error>();
      const have = listBandwidths(socket, owns);
      for (const name of remove) {
        const error = lift(socket, name);
        if (error) failed.set(name, error);
      }
      for (const [name, want] of put) {
        const error = limit(socket, name, want, have.get(name));
        if (error) failed.set(name, error);
      }
      return Promise.resolve(failed);
    },
  };
}

/** A half of a limit on what a pod sends, or a passage without a pod. */
const broken: TokenBucket = { rate: 0, bufferTicks: 0, limitBytes: 0, peakRate: 0, minburstBytes: 0 };

function listBandwidths(socket: RtSocket, owns: (name: string) => boolean): Map<string, Bandwidth> {
  const links = [...listLinks(socket).values()], qdiscs = Map.groupBy(listQdiscs(socket), (q) => q.index);
  const passages = new Map(links.filter((l) => l.name.startsWith(passagePrefix)).map((l) => [l.name, l]));
  const found = new Map<string, Bandwidth>();
  for (const { name, index } of links.filter((l) => owns(l.name))) {
    const passage = passages.get(passageName(name)), own = qdiscs.get(index) ?? [];
    const opened = own.some((q) => q.kind === "ingress");
    const ingress = bucketOf(own), through = passage?.up ? bucketOf(qdiscs.get(passage.index) ?? []) : undefined;
    const egress = passage || opened ? (opened && through) || broken : undefined;
    if (ingress || egress) found.set(name, { index, ingress, egress });
    if (passage) passages.delete(passage.name);
  }
  for (const { name, index } of passages.values()) found.set(name, { index, ingress: undefined, egress: broken });
  return found;
}

const bucketOf = (qdiscs: Qdisc[]): TokenBucket | undefined => qdiscs.find((q) => q.isRoot)?.bucket;

function limit(socket: RtSocket, name: string, want: Bandwidth, have: Bandwidth | undefined): Error | undefined {
  const received = want.ingress
    ? [setBucket(want.index, want.ingress)]
    : have?.ingress
    ? [removeBucket(want.index)]
    : [];
  const error = tolerant(socket, received);
  if (error) return error;
  if (!want.egress) return have?.egress ? liftEgress(socket, name) : undefined;
  const passage = passageOf(socket, name);
  if (!("index" in passage)) return passage;
  const isWhole = have?.egress !== undefined && have.egress !== broken && have.index === want.index;
  const steps = [setBucket(passage.index, want.egress), setLink(passage.index, { up: true })];
  // A detour that leads through the device already stays: without it packets would pass unlimited for a moment.
  if (isWhole) return tolerant(socket, steps);
  return tolerant(socket, steps) ?? tolerant(socket, [closeIngress(want.index)], E.INVAL, E.NOENT) ??
    tolerant(socket, [openIngress(want.index), redirectIngress(want.index, passage.index)]);
}

/** The device of an interface's passage, made when it is missing. */
function passageOf(socket: RtSocket, interfaceName: string): Link | Error {
  const name = passageName(interfaceName), found = getLink(socket, name);
  if (found) return found;
  const mtuBytes = getLink(socket, interfaceName)?.mtuBytes ?? 0;
  const error = tolerant(socket, [createTunnelDevice(name, { kind: "ifb", mtuBytes, up: true })], E.EXIST);
  return error ?? getLink(socket, name) ?? new Error(`${name} is not there although it was made`);
}

/** Takes all limits off; `name` may be a passage whose interface is gone. */
function lift(socket: RtSocket, name: string): Error | undefined {
  const link = getLink(socket, name);
  if (name.startsWith(passagePrefix)) return link && tolerant(socket, [deleteLink(link.index)], E.NODEV);
  const error = link && tolerant(socket, [removeBucket(link.index)], E.INVAL, E.NOENT);
  return error ?? liftEgress(socket, name);
}

function liftEgress(socket: RtSocket, name: string): Error | undefined {
  const link = getLink(socket, name), passage = getLink(socket, passageName(name));
  // The detour first: what is sent on it to a device that is gone would be lost.
  return (link && tolerant(socket, [closeIngress(link.index)], E.INVAL, E.NOENT)) ??
    (passage && tolerant(socket, [deleteLink(passage.index)], E.NODEV));
}

const tolerant = (socket: RtSocket, steps: Request[], ...tolerated: number[]): KernelError | undefined =>
  socket.batch(steps).find(({ error }) => error && !isErrno(error, ...tolerated))?.error;
