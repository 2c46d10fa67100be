import { messageOf, Problem, type ProblemCode } from "../lib/problem.ts";

/** What went wrong, in the form of Kubernetes' meta/v1 Status, which its tools know how to read. */
export interface Status {
  kind: "Status";
  apiVersion: "v1";
  status: "Failure";
  /** One sentence: what, where, what to do. */
  message: string;
  /** For programs: `NotFound`, `Conflict`, … */
  reason: string;
  details?: { causes: { reason: string; message: string; field: string }[] };
  code: number;
}

/** HTTP's code and Kubernetes' reason of every sort of problem. */
const answers: Record<ProblemCode, [code: number, reason: string]> = {
  "bad-input": [400, "BadRequest"],
  "validation": [422, "Invalid"],
  "not-found": [404, "NotFound"],
  "exists": [409, "AlreadyExists"],
  "conflict": [409, "Conflict"],
  "unsupported": [405, "MethodNotAllowed"],
  "insufficient": [400, "BadRequest"],
  "unavailable": [503, "ServiceUnavailable"],
  "not-ready": [503, "ServiceUnavailable"],
  "unauthorized": [403, "Forbidden"],
  "exhausted": [507, "InsufficientStorage"],
  "kernel": [500, "InternalError"],
  "undecodable": [500, "InternalError"],
};

/** A refusal of ours that is no Problem. */
export function statusOf(code: number, reason: string, message: string): Status {
  return { kind: "Status", apiVersion: "v1", status: "Failure", message, reason, code };
}

/** What is answered for anything thrown. Of a bug no more is told than that it is one; the log has its stack. */
export function statusOfError(error: unknown): Status {
  if (!(error instanceof Problem)) return statusOf(500, "InternalError", "this is a bug; the log of tortie tells more");
  const [code, reason] = answers[error.code];
  const causes = error.fields?.map(({ field, reason }) => ({ reason: "FieldValueInvalid", message: reason, field }));
  return { ...statusOf(code, reason, messageOf(error)), ...causes && causes.length > 0 ? { details: { causes } } : {} };
}
