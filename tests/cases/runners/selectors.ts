import { parseSelector } from "../../../datastore/selector/index.ts";
import { Problem } from "../../../lib/problem.ts";
import { Case, CaseRunner, Outcome } from "../case_runner.ts";

/** What the real parser answered. */
interface Expected {
  ok: boolean;
  canonical?: string;
  id?: string;
  matches?: boolean[];
}

/** Runs selectors.json: text → canonical text, id, and the result against each label map. */
export const runner: CaseRunner = {
  run(one: Case): Outcome {
    const input = one.input as { selector: string; labels: Record<string, string>[] };
    const expected = JSON.stringify(inOrder(one.expect as Expected));
    const got = JSON.stringify(inOrder(answer(input.selector, input.labels)));
    if (expected === got) return { is: "passed" };
    return { is: "failed", difference: `expected ${expected}\n     got ${got}` };
  },
};

function answer(text: string, labels: Record<string, string>[]): Expected {
  try {
    const selector = parseSelector(text);
    return {
      ok: true,
      canonical: selector.text,
      id: selector.id,
      matches: labels.map((l) => selector.matches(l)),
    };
  } catch (error) {
    if (error instanceof Problem) return { ok: false };
    throw error;
  }
}

const inOrder = ({ ok, canonical, id, matches }: Expected) => ({ ok, canonical, id, matches });
