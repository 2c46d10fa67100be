/** One case of a file: what was put in, and what the real Calico answered. */
export interface Case {
  id: string;
  what: string;
  input: Record<string, unknown>;
  expect: unknown;
  /** Where we differ from Calico on purpose: the reason. Such a case is counted as differing. */
  differs?: string;
}

/** What became of a case. `difference` shows expected and got in full; `differs` gives the reason. */
export type Outcome =
  | { is: "passed" }
  | { is: "failed"; difference: string }
  | { is: "differs"; reason: string };

/** Runs the cases of one file. `tests/cases/runners/<name>.ts` exports one as `runner` for `<name>.json`. */
export interface CaseRunner {
  /** Called once before the first case; what it returns is disposed after the last. */
  start?(): Promise<AsyncDisposable>;
  run(one: Case): Outcome | Promise<Outcome>;
}
