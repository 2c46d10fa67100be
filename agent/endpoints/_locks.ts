/** Lets one piece of work at a time run per key, in the order of asking. */
export class Locks {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `work` when everybody who asked before for one of `keys` is done. */
  async hold<T>(keys: string[], work: () => Promise<T>): Promise<T> {
    const before = Promise.allSettled(keys.map((key) => this.#tails.get(key)));
    const result = before.then(work);
    const tail = result.catch(() => {});
    for (const key of keys) this.#tails.set(key, tail);
    try {
      return await result;
    } finally {
      for (const key of keys) if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
