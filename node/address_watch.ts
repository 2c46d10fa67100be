import { Backoff } from "../lib/backoff.ts";
import { writeJson } from "../lib/json64.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { Writer, type WriterParts } from "./ensure.ts";
import { isVolatile, type LocalInterface } from "./interfaces.ts";
import { ensureOwnNode, nodeWishes, type OwnNodeParts } from "./own_node.ts";

/** What watchAddresses() works with. */
export interface AddressWatchParts extends Omit<OwnNodeParts, "interfaces">, WriterParts {
  signal: AbortSignal;
  /** The interfaces that start-up decided on. */
  decidedOn: LocalInterface[];
  /** All interfaces of this host, now. */
  readInterfaces(): LocalInterface[];
  /** Yields when links or addresses changed; its first value comes at once. */
  changes: AsyncIterable<unknown>;
}

/** A card that is plugged in, or an address that is exchanged, comes in several steps. */
const settleMs = 1_000;

/**
 * Keeps this Node's addresses and interfaces as they are while the node runs: what start-up decides is decided again when
 * an interface that is not a pod's changed. Something that cannot be decided, or another node's address, is told and the
 * Node stays as it is. Runs until `signal` is aborted.
 * DIFFERS: Calico looks every AUTODETECT_POLL_INTERVAL (60 s) and exits when detection fails.
 */
export async function watchAddresses(parts: AddressWatchParts): Promise<void> {
  const wishes = nodeWishes(parts.settings);
  let known = identity(parts.decidedOn);
  for await (const _ of parts.changes) {
    if (parts.signal.aborted) return;
    await parts.clock.sleep(settleMs, parts.signal).catch(() => {}); // aborted: the check below ends it
    if (parts.signal.aborted) return;
    const interfaces = parts.readInterfaces();
    const now = identity(interfaces);
    if (now !== known) await decideAgain({ ...parts, interfaces }, wishes);
    known = now;
  }
}

/** What decisions look at: all but the host's ends of pods. */
const identity = (interfaces: LocalInterface[]): string =>
  writeJson(interfaces.filter((one) => !one.name.startsWith("cali") && !isVolatile(one)));

async function decideAgain(
  parts: OwnNodeParts & WriterParts & { signal: AbortSignal },
  wishes: ReturnType<typeof nodeWishes>,
): Promise<void> {
  const backoff = new Backoff({ firstMs: 1_000, maxMs: 30_000, random: parts.random, clock: parts.clock });
  while (!parts.signal.aborted) {
    try {
      const writer = new Writer(parts);
      await ensureOwnNode(parts, writer, wishes);
      return;
    } catch (error) {
      if (!isProblem(error)) throw error;
      parts.log.warn("addresses of this node stay as they are", { why: messageOf(error) });
      if (!isProblem(error, "unavailable")) return;
      await backoff.wait(parts.signal).catch(() => {}); // aborted: the loop's condition ends it
    }
  }
}
