import { hashSize } from "./set_messages.ts";
import type { SetState } from "./wanted_set.ts";

/** Where `ipset restore` ended early. */
export interface StoppedBulk {
  at: SetState;
  temporary: string;
  /** Undefined = it was no member that was refused. */
  member: string | undefined;
  why: string;
  done: SetState[];
  rest: SetState[];
}

/** Several sets as one text for `ipset restore`. */
export class SetBulk {
  readonly text: string;
  /** First line of each set, from 1, in order; and the member of each line that adds one. */
  readonly #sets: { state: SetState; from: number; temporary: string; learn: () => void }[] = [];
  readonly #lines: string[] = [];

  constructor(states: readonly SetState[], temporaryPrefix: string) {
    states.forEach((state, i) => {
      const from = this.#lines.length + 1, temporary = `${temporaryPrefix}${i}`;
      this.#sets.push({ state, from, temporary, learn: this.#add(state, temporary) });
    });
    this.text = this.#lines.join("\n") + "\n";
  }

  get lines(): number {
    return this.#lines.length;
  }

  /** @returns what tells the state that its lines have been carried out. */
  #add(state: SetState, temporary: string): () => void {
    const { name, family } = state;
    const plan = state.plan();
    if (plan.do === "change") {
      const add = [...state.adding].filter((m) => !state.refused.has(m)), remove = [...state.removing];
      for (const m of add) this.#lines.push(`add ${name} ${m}`);
      for (const m of remove) this.#lines.push(`del ${name} ${m}`);
      return () => {
        add.forEach((m) => state.added(m));
        remove.forEach((m) => state.removed(m));
      };
    }
    const made = state.whole();
    const inet = family === 4 ? "inet" : "inet6";
    const size = `hashsize ${hashSize(made.members.size)} maxelem ${made.maxelem}`;
    this.#lines.push(`create ${temporary} ${made.type} family ${inet} ${size}`);
    for (const m of made.members) this.#lines.push(`add ${temporary} ${m}`);
    // Under its own name it is never seen half filled.
    if (plan.do === "replace") this.#lines.push(`swap ${name} ${temporary}`, `destroy ${temporary}`);
    else {
      if (plan.do === "create" && plan.destroyFirst) this.#lines.push(`destroy ${name}`);
      this.#lines.push(`rename ${temporary} ${name}`);
    }
    return () => state.made(made);
  }

  /** All lines, or those of some sets, have been carried out. */
  learn(states?: readonly SetState[]): void {
    for (const set of this.#sets) if (!states || states.includes(set.state)) set.learn();
  }

  /**
   * Where a run ended early, by ipset's words; undefined when they blame no line.
   * @returns the set and member that was refused, what stands half made instead of it, the sets before it and those after.
   */
  stoppedAt(stderr: string): StoppedBulk | undefined {
    const words = /Error in line (\d+): (.*)/.exec(stderr);
    if (!words) return undefined;
    const line = Number(words[1]);
    const index = this.#sets.findLastIndex((s) => s.from <= line);
    if (index < 0) return undefined;
    const states = this.#sets.map((s) => s.state);
    return {
      at: states[index]!,
      temporary: this.#sets[index]!.temporary,
      member: /^add \S+ (\S+)$/.exec(this.#lines[line - 1] ?? "")?.[1],
      why: words[2]!.trim(),
      done: states.slice(0, index),
      rest: states.slice(index + 1),
    };
  }
}
