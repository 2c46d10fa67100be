import type { SubjectInput } from "./inputs.ts";

/** So many different values are known at a time. */
const mostKnown = 4_096;

/**
 * Lets subjects with equal labels or profiles share one object: the pods of a Deployment have the same, and ten thousand
 * maps of labels are megabytes. Knows the values seen last; subjects come sorted by namespace, so equal ones come together.
 */
export class SharedValues {
  readonly #labels = new Map<string, SubjectInput["labels"]>();
  readonly #parents = new Map<string, SubjectInput["parents"]>();

  /** The subject with shared parts. @param local false: what only its own node needs is left out. */
  subject(subject: SubjectInput, local: boolean): SubjectInput {
    let words = "";
    for (const [name, value] of subject.labels) words += `${name}\0${value}\0`;
    return {
      ...subject,
      labels: known(this.#labels, words, subject.labels),
      parents: known(this.#parents, subject.parents.join("\0"), subject.parents),
      ports: subject.ports.length > 0 ? subject.ports : none,
      interfaceName: local ? subject.interfaceName : "",
    };
  }
}

const none: never[] = [];

function known<V>(values: Map<string, V>, key: string, value: V): V {
  const there = values.get(key);
  if (there !== undefined) return there;
  if (values.size >= mostKnown) values.clear();
  values.set(key, value);
  return value;
}
