import { Problem } from "../../lib/problem.ts";
import { openNetns } from "../netns.ts";
import type { Port } from "../reconcile.ts";
import { getLink, getPeer, type Link, setLink } from "./link.ts";
import { RtSocket } from "./socket.ts";

/** Where container runtimes name namespaces; those of no name are found by their processes. */
const namedIn = ["/run/netns", "/var/run/docker/netns"];

/**
 * MTU of the far ends of veth pairs, by the index of the near end. The kernel tells it across namespaces but changes it
 * only from within, so the namespace is looked for when there is something to change.
 */
export function farMtuPort(socket: RtSocket, wanted: () => Iterable<number>): Port<number, number> {
  const peerOf = (index: number): Link | undefined => {
    const link = getLink(socket, index);
    return link && getPeer(socket, link);
  };
  const read = (indexes: Iterable<number>) =>
    new Map([...indexes].flatMap((index) => {
      const peer = peerOf(index);
      return peer ? [[index, peer.mtuBytes] as const] : [];
    }));
  return {
    name: "mtu of pods",
    list: () => Promise.resolve(read(wanted())),
    read: (indexes) => Promise.resolve(read(indexes)),
    same: (have, want) => have === want,
    apply(put) {
      const failed = new Map<number, Error>();
      const open = new Map(put.filter(([index, mtu]) => {
        const peer = peerOf(index);
        return peer !== undefined && peer.mtuBytes !== mtu; // gone: its endpoint goes, too
      }));
      for (const path of open.size > 0 ? namespacePaths() : []) {
        if (open.size === 0) break;
        for (const [index, error] of setWithin(path, open, socket)) {
          open.delete(index);
          if (error) failed.set(index, error);
        }
      }
      for (const index of open.keys()) failed.set(index, new Error("the pod's namespace was not found"));
      return Promise.resolve(failed);
    },
  };
}

/** Sets those far ends that are in a namespace. @returns which they were, and what the kernel refused. */
function setWithin(path: string, open: ReadonlyMap<number, number>, host: RtSocket): [number, Error | undefined][] {
  try {
    using netns = openNetns(path);
    using inside = RtSocket.open(netns);
    const done: [number, Error | undefined][] = [];
    for (const [index, mtuBytes] of open) {
      const near = getLink(host, index),
        far = near?.peerIndex === undefined ? undefined : getLink(inside, near.peerIndex);
      // An index means nothing in another namespace; the pair does: each names the other.
      if (!near || far?.kind !== "veth" || far.peerIndex !== index || far.peerNsid === undefined) continue;
      done.push([index, inside.batch([setLink(far.index, { mtuBytes })])[0]!.error]);
    }
    return done;
  } catch (error) {
    if (error instanceof Problem) return []; // it went while we looked
    throw error;
  }
}

/** Paths of all network namespaces of this machine but our own, each once. */
function* namespacePaths(): Generator<string> {
  const seen = new Set([identity("/proc/thread-self/ns/net")]);
  for (const dir of namedIn) {
    for (const path of entries(dir)) {
      const id = identity(path);
      if (id === undefined || seen.has(id)) continue;
      seen.add(id);
      yield path;
    }
  }
  for (const process of entries("/proc")) {
    if (!/^\/proc\/\d+$/.test(process)) continue;
    const path = `${process}/ns/net`, id = identity(path);
    if (id === undefined || seen.has(id)) continue;
    seen.add(id);
    yield path;
  }
}

function entries(dir: string): string[] {
  try {
    return [...Deno.readDirSync(dir)].map(({ name }) => `${dir}/${name}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Inode of a namespace; undefined when it is gone. */
function identity(path: string): number | undefined {
  try {
    return Deno.statSync(path).ino ?? undefined;
  } catch {
    return undefined; // a process that ended, or a folder entry that is no namespace
  }
}
