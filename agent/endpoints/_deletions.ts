import { isProblem, Problem } from "../../lib/problem.ts";
import { deleteGroup, deleteLink, linkQuery, setLink } from "../../kernel/rtnetlink/link.ts";
import { E, isErrno, RtSocket } from "../../kernel/rtnetlink/socket.ts";

/** Links of this group are on their way out: "tort" in ASCII. Nobody else numbers groups so high. */
const doomedGroup = 0x746f7274;

/**
 * Deletes links, all that wait at once in one request, because the kernel waits 26-34 ms per request and not per link.
 * The waiting is done off the event loop.
 */
export class Deletions implements AsyncDisposable {
  readonly #socket = RtSocket.open();
  #waiting = new Map<number, PromiseWithResolvers<void>>();
  #running: Promise<void> | undefined;

  /** Resolves when the link is gone; one that is not there is gone. @throws Problem "kernel". */
  delete(index: number): Promise<void> {
    const known = this.#waiting.get(index);
    if (known) return known.promise;
    const entry = Promise.withResolvers<void>();
    this.#waiting.set(index, entry);
    this.#running ??= this.#drain();
    return entry.promise;
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // lets the calls of this turn come together
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      const errors = await this.#deleteAll([...batch.keys()]);
      for (const [index, { resolve, reject }] of batch) {
        const error = errors.get(index);
        if (error) reject(error);
        else resolve();
      }
    }
    this.#running = undefined;
  }

  /** What could not be deleted and why. */
  async #deleteAll(indexes: number[]): Promise<Map<number, Problem>> {
    try {
      const left = indexes.length === 1 ? indexes : await this.#deleteAsGroup(indexes);
      const answers = await this.#socket.batchLater(left.map(deleteLink));
      return new Map(answers.flatMap(({ error }, i) => {
        if (!error || isErrno(error, E.NODEV)) return [];
        const where = `interface index ${left[i]}`;
        return [[left[i]!, new Problem({ code: "kernel", what: "link cannot be deleted", where, cause: error })]];
      }));
    } catch (cause) {
      const problem = isProblem(cause)
        ? cause
        : new Problem({ code: "kernel", what: "links cannot be deleted", cause });
      return new Map(indexes.map((index) => [index, problem]));
    }
  }

  /** Answers which are still there: to be deleted one by one, so that each gets its own error. */
  async #deleteAsGroup(indexes: number[]): Promise<number[]> {
    const marks = indexes.map((index) => setLink(index, { group: doomedGroup }));
    await this.#socket.batchLater([...marks, deleteGroup(doomedGroup)]);
    const found = this.#socket.batch(indexes.map(linkQuery));
    return indexes.filter((_, i) => !isErrno(found[i]!.error, E.NODEV));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running;
    this.#socket[Symbol.dispose]();
  }
}
