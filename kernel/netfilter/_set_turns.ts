/** Members that are compared at a look, in the mean: half a millisecond's work. A set costs as much as so many of them. */
const comparedAtOnce = 500;
const setCosts = 40;
/** A set that is larger has its turn, too, when so much was saved up. */
const mostCredit = 1 << 20;

/** Whose members are compared next, in turn: what each look may cost is saved up for large sets. */
export class SetTurns {
  #turns: string[] = [];
  #credit = 0;

  /**
   * Sets whose turn it is. @param all names of all sets, for when every one has had its turn.
   * @param elementsOf how many members a set has; undefined = it is not to be compared now.
   */
  *next(all: Iterable<string>, elementsOf: (name: string) => number | undefined): Generator<string> {
    this.#credit = Math.min(this.#credit + comparedAtOnce, mostCredit);
    for (let n = this.#turns.length; n > 0; n--) {
      const name = this.#turns[0]!, elements = elementsOf(name);
      const cost = Math.min((elements ?? 0) + setCosts, mostCredit);
      if (cost > this.#credit) break;
      this.#turns.shift();
      if (elements === undefined) continue;
      this.#credit -= cost;
      yield name;
    }
    if (this.#turns.length === 0) this.#turns = [...all];
  }
}
