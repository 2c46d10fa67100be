import { isProblem, messageOf, Problem, type ProblemCode, type ProblemParts } from "../lib/problem.ts";

/** Error codes of the CNI specification 1.1.0 ("Error"), and skel's 8. */
export const codes = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidConfig: 7,
  invalidNetns: 8,
  tryAgainLater: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
} as const;

/**
 * Our own codes (the specification leaves 100 and above to plugins), by what a Problem says. Stable: scripts and alerts
 * may look at them. `undefined` in a Problem's place means the specification has a code of its own.
 */
export const ownCodes: Record<ProblemCode, number> = {
  "unavailable": codes.tryAgainLater,
  "not-ready": codes.tryAgainLater,
  "exhausted": 101,
  "exists": 102,
  "kernel": 103,
  "not-found": 104,
  "unauthorized": 105,
  "bad-input": 106,
  "conflict": 107,
  "unsupported": 108,
  "undecodable": 109,
  "validation": 110,
  "insufficient": 111,
};

/** CHECK found a difference; GC could not remove everything; a bug (the agent's log has its stack); the `-t` self-test. */
export const checkFailed = 120, gcIncomplete = 121, bug = 199, selfTestFailed = 100;

/** A Problem whose CNI error code is the specification's own, not the one that its kind has. */
export class Refusal extends Problem {
  /** @param details the error object's `details`; default: where and what to do. */
  constructor(readonly cniCode: number, parts: ProblemParts, readonly details?: string) {
    super(parts);
  }
}

/** CNI's error object. */
export interface CniError {
  cniVersion: string;
  code: number;
  msg: string;
  details?: string;
}

/** The error object for whatever was thrown. Members as in the specification 1.1.0, "Error". */
export function cniError(error: unknown, cniVersion: string): CniError {
  if (!isProblem(error)) return { cniVersion, code: bug, msg: `internal error: ${messageOf(error)}` };
  const code = error instanceof Refusal ? error.cniCode : ownCodes[error.code];
  const cause = error.cause instanceof Error ? `: ${messageOf(error.cause)}` : "";
  const fields = error.fields?.map((f) => `${f.field}: ${f.reason}`) ?? [];
  const given = error instanceof Refusal ? error.details : undefined;
  const details = given ?? [error.where, ...fields, error.todo].filter((part) => part).join(". ");
  return { cniVersion, code, msg: error.what + cause, ...(details ? { details } : {}) };
}
