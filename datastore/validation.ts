import type { FieldProblem } from "../lib/problem.ts";
import { writeJson } from "../lib/json64.ts";
import type { Refuse } from "./schema/fields.ts";
import type { Kind, Resource } from "./kind.ts";
import { checkMetadata } from "./metadata.ts";
import { invalid } from "./problems.ts";

/**
 * Fills in what Calico's client fills in, and makes its first checks, those whose breach hides all others. Changes
 * `resource`, which must be the caller's own copy. @param old the stored object, at an update.
 * @throws Problem "validation".
 */
export function prepare<R extends Resource>(kind: Kind<R>, resource: R, old?: R): void {
  kind.defaults(resource, old);
  const problems = collect((refuse) => {
    kind.precheck(resource, refuse);
    if (old) kind.checkUpdate(resource, old, refuse);
  });
  if (problems.length > 0) throw invalid(problems);
}

/** @throws Problem "validation" whose `fields` name every breach of check(), each once, in Calico's words. */
export function validate<R extends Resource>(kind: Kind<R>, resource: R): void {
  const problems = check(kind, resource);
  if (problems.length > 0) throw invalid(problems);
}

/**
 * Every rule that an object breaks: those of Calico's client, then those of the schema on the object as it would be
 * written. The schema's defaults are filled in between. Source: Calico libcalico-go/lib/validator/v3, Validate.
 */
export function check<R extends Resource>(kind: Kind<R>, resource: R): FieldProblem[] {
  const { spec, status } = resource;
  return collect((refuse, problems) => {
    checkMetadata(resource.metadata, refuse);
    kind.fields.checkTags({ spec, status }, "", problems);
    kind.check(resource, refuse);
    if (!kind.hasSchema) return;
    kind.fields.fill(resource);
    const written = kind.fields.write({ spec: resource.spec, status: resource.status });
    const found: FieldProblem[] = [];
    kind.fields.check(written, "", found);
    // Calico tells the value only with the rules of its client.
    for (const { field, reason } of found) refuse(field, reason);
    kind.checkSchema(resource, (reason, path = "spec") => refuse(path, reason));
  });
}

/** What `look` refuses. Calico tells the same breach twice where two of its rules notice it; we tell it once. */
function collect(look: (refuse: Refuse, problems: FieldProblem[]) => void): FieldProblem[] {
  const problems: FieldProblem[] = [];
  look((field, reason, value) => problems.push({ field, reason, value }), problems);
  const seen = new Set<string>();
  return problems.filter(({ field, reason, value }) => {
    const id = `${field}\n${reason}\n${writeJson(value)}`;
    return !seen.has(id) && seen.add(id);
  });
}
