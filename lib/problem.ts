/**
 * What went wrong, as a machine name. Every edge maps it to its own words: CNI error numbers, exit codes, HTTP status.
 * `bug` never appears here: a bug stays an ordinary Error with its stack.
 */
export type ProblemCode =
  | "bad-input" // text, flag, file or config that cannot be read
  | "validation" // an object that breaks a rule of its kind; `fields` names each
  | "not-found"
  | "exists"
  | "conflict" // the stored object is newer than the one we were asked to change
  | "unsupported"
  | "insufficient" // an identifier is missing
  | "unavailable" // a server did not answer in time, or refused the connection: try again
  | "not-ready" // we, or the cluster, are not in sync or locked: try again
  | "unauthorized"
  | "exhausted" // no address, block or other resource left
  | "kernel" // the kernel refused; `where` names the object, `cause` the errno
  | "undecodable"; // a stored value that cannot be understood

/** One field that a validation refused. `field` is Calico's name or a JSON path such as `spec.cidr`. */
export interface FieldProblem {
  field: string;
  value?: unknown;
  reason: string;
}

/** The parts of a Problem; see the class. */
export interface ProblemParts {
  what: string;
  where?: string;
  todo?: string;
  code: ProblemCode;
  cause?: unknown;
  fields?: FieldProblem[];
}

/**
 * The only error thrown on purpose: *what* failed, *where* (object, file:line, field path, key, interface), what to
 * *do*. `message` is the three as one line, for logs and for whoever prints an Error.
 */
export class Problem extends Error {
  readonly what: string;
  readonly where: string | undefined;
  readonly todo: string | undefined;
  readonly code: ProblemCode;
  readonly fields: FieldProblem[] | undefined;

  constructor(parts: ProblemParts) {
    super(sentence(parts), parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = "Problem";
    this.what = parts.what;
    this.where = parts.where;
    this.todo = parts.todo;
    this.code = parts.code;
    this.fields = parts.fields;
  }
}

/** `what (where): first cause. todo` on one line. */
function sentence(parts: ProblemParts): string {
  const where = parts.where ? ` (${parts.where})` : "";
  const cause = parts.cause instanceof Error && !(parts.cause instanceof Problem) ? `: ${parts.cause.message}` : "";
  const todo = parts.todo ? `. ${parts.todo}` : "";
  return `${parts.what}${where}${cause}${todo}`;
}

/** The text of anything thrown: a Problem's sentence, an Error's message, else its string form. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** True when `error` is a Problem with one of `codes`. */
export function isProblem(error: unknown, ...codes: ProblemCode[]): error is Problem {
  return error instanceof Problem && (codes.length === 0 || codes.includes(error.code));
}
