import type { Surroundings } from "./surroundings.ts";

/** Work that is over sooner, in ms, says nothing of itself. */
const quietMs = 1_000;

/** Tells on a terminal's standard error what is being done, once it has taken longer than a second. */
export class Progress implements Disposable {
  #what = "";
  #shown = "";
  readonly #end = new AbortController();

  constructor(private readonly surroundings: Pick<Surroundings, "terminal" | "err" | "clock">) {
    if (surroundings.terminal) void this.#show();
  }

  /** What is done from now on: `looking at this host`. */
  step(what: string): void {
    this.#what = what;
    if (this.#shown !== "") this.#print(what);
  }

  async #show(): Promise<void> {
    try {
      await this.surroundings.clock.sleep(quietMs, this.#end.signal);
    } catch (error) {
      if (this.#end.signal.aborted) return;
      throw error;
    }
    if (this.#what !== "") this.#print(this.#what);
  }

  /** Each line takes the place of the one before. */
  #print(what: string): void {
    this.surroundings.err(`\r${`${what} …`.padEnd(this.#shown.length)}`);
    this.#shown = `${what} …`;
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    if (this.#shown !== "") this.surroundings.err(`\r${" ".repeat(this.#shown.length)}\r`);
  }
}
