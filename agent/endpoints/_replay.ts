import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf } from "../../lib/problem.ts";
import { attachmentId } from "./attachment.ts";
import type { JournalEntry, OpenJournal } from "./journal.ts";
import { release, type ReleaseParts } from "./_release.ts";
import type { Wiring } from "./wiring.ts";

/** What a replay works with. */
export interface ReplayParts extends ReleaseParts {
  journal: OpenJournal;
  wiring: Pick<Wiring, "disconnect" | "inspect">;
  clock: Clock;
  log: Logger;
}

/** Runs `work` for an entry alone; does nothing while the entry's ADD goes on. */
export type Alone = (entry: JournalEntry, work: () => Promise<void>) => Promise<void>;

/** Replays at once; the rest waits for the next answers. */
const together = 40;
/** Silence of etcd after which a round ends. */
const patienceMs = 2_000;
/**
 * A transaction that etcd did not confirm may still be in its queue when etcd comes back: an entry that finds nothing is
 * looked at again after this time before it is dropped.
 */
const settleMs = 2_000;
/** Between two looks at the folder, for what the plugin wrote while it could not reach us. */
const scanMs = 5_000;

/** Works off the journal. */
export class Replay {
  readonly #emptySince = new Map<string, number>();
  #wake = Promise.withResolvers<void>();

  constructor(private readonly parts: ReplayParts, private readonly alone: Alone) {}

  /** There is a new entry: wanted() resolves. */
  want(): void {
    this.#wake.resolve();
  }

  /** Resolves when there may be something to do. */
  async wanted(signal: AbortSignal): Promise<void> {
    await Promise.race([this.#wake.promise, this.parts.clock.sleep(scanMs, signal)]);
    this.#wake = Promise.withResolvers<void>();
    await this.parts.journal.scan();
  }

  /**
   * Removes links of ADDs in which the last process died: the one in that namespace with the MAC that the ADD chose, so
   * never that of another sandbox.
   */
  async links(): Promise<void> {
    const { journal, log } = this.parts;
    for (const entry of journal.entries()) {
      if (!entry.link) continue;
      try {
        await this.#removeLink(entry);
      } catch (error) {
        log.error("link of a half-made endpoint stays", { netns: entry.link.netns, why: messageOf(error) });
      }
    }
  }

  /** One round over all entries. @returns what is left: nothing, what only waits, or what failed. */
  async all(): Promise<"nothing" | "waiting" | "failed"> {
    const { journal, mirror } = this.parts;
    const entries = journal.entries();
    const { inSync, connected } = mirror.state();
    if (entries.length === 0) return "nothing";
    if (!inSync || !connected) return "waiting";
    let failed = false;
    for (let i = 0; i < entries.length; i += together) {
      const group = entries.slice(i, i + together);
      const ends = await Promise.all(group.map((entry) => this.#one(entry)));
      failed ||= ends.some((end) => end !== "done");
      if (ends.includes("away")) return "failed";
    }
    if (failed) return "failed";
    return journal.entries().length > 0 ? "waiting" : "nothing";
  }

  async #one(entry: JournalEntry): Promise<"done" | "later" | "away"> {
    const { log } = this.parts;
    try {
      await this.alone(entry, () => this.#undo(entry));
      return "done";
    } catch (error) {
      const fields = { container: entry.attachment.containerId, why: messageOf(error) };
      if (isProblem(error, "unavailable", "not-ready")) return "away";
      log.warn("pending delete failed, it is tried again", fields);
      return "later";
    }
  }

  async #undo(entry: JournalEntry): Promise<void> {
    const { journal, clock, log } = this.parts;
    const { attachment, endpointKey } = entry;
    if (journal.get(attachment) !== entry) return;
    if (entry.link) await this.#removeLink(entry);
    const etcd = await release(this.parts, { attachment, endpointKey, patienceMs, askAnyway: true });
    const id = attachmentId(attachment);
    const since = this.#emptySince.get(id) ?? clock.monotonicMs();
    if (etcd === "nothing" && clock.monotonicMs() - since < settleMs) {
      this.#emptySince.set(id, since);
      return;
    }
    this.#emptySince.delete(id);
    await journal.drop(attachment);
    if (etcd === "released") log.info("pending delete reached etcd", { container: attachment.containerId });
  }

  async #removeLink({ attachment: { interfaceName }, link }: JournalEntry): Promise<void> {
    const { wiring } = this.parts;
    const { netns, mac } = link!;
    const { pod } = await wiring.inspect({ netns, interfaceName, hostInterface: interfaceName });
    if (pod?.mac === mac) await wiring.disconnect({ netns, interfaceName });
  }
}
