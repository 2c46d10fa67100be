import { writeJson } from "../lib/json64.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import type { Kind, Resource } from "../datastore/kind.ts";
import { kindByName, kindByWord, kinds } from "../datastore/kinds/index.ts";
import { apiVersion } from "../datastore/kind.ts";
import { identify } from "../datastore/problems.ts";
import { badInput, type Call, type Flag, outputOf } from "./command.ts";
import { Progress } from "./progress.ts";
import { nearest } from "../lib/nearest.ts";
import { type Document, InvalidInput, readDocuments } from "./input.ts";

/** Flags of commands that read objects from files. */
export const fileFlags: readonly Flag[] = [
  { name: "filename", short: "f", value: "FILE", help: "a file, a folder, or - for standard input" },
  { name: "recursive", short: "R", help: "look into folders of the folder too" },
  { name: "skip-empty", help: "no object at all is fine" },
  { name: "namespace", short: "n", value: "NAME", help: "namespace of objects that give none" },
];

/** `-o json` of commands that change objects. */
export const outcomeFlag: Flag = { name: "output", short: "o", value: "FORMAT", help: "text or json" };

/** What became of the objects of one command. */
export interface Outcome {
  total: number;
  handled: number;
  errors: { error: Error; where: string }[];
  /** Objects that were handled, as `Kind(name) in file, document 2`. */
  done: string[];
  /** The kind, when all are of one. */
  kind?: string;
}

/** The objects that a command is about, from `-f`, or named on the command line. */
export async function objectsOf(call: Call): Promise<Document[]> {
  const file = call.flags.text("filename");
  if (file === undefined) return named(call);
  try {
    return await readDocuments(file, call.surroundings, {
      recursive: call.flags.on("recursive"),
      allowEmpty: call.flags.on("skip-empty"),
    });
  } catch (error) {
    if (error instanceof InvalidInput) throw hinted(`failed to execute command: ${error.message}`, error.hint);
    throw error;
  }
}

/** `KIND NAME...` of the command line; without a name one object that has none. */
export function named(call: Call): Document[] {
  const [word, ...names] = call.args;
  if (word === undefined) {
    throw badInput("no resources specified", `See ${call.surroundings.program} --help`);
  }
  const kind = kindByWord(word);
  if (!kind) throw unknownKind(`resource type '${word}' is not supported`, word);
  return (names.length > 0 ? names : [""]).map((name) => ({
    resource: { kind: kind.kind, apiVersion, metadata: { name }, spec: {} },
    where: `${word} ${name}`,
  }));
}

/** A refusal whose hint is shown to people at a terminal alone. */
const hinted = (what: string, hint: string | undefined): Problem =>
  new Problem({ code: "bad-input", what, fields: hint ? [{ field: "", reason: hint }] : undefined });

/** A word of the command line that is no kind. */
export function unknownKind(what: string, word: string): Problem {
  const words = kinds.filter((k) => !k.internal).flatMap((k) => [k.kind.toLowerCase(), k.plural, ...k.shortNames]);
  const guess = nearest(word, words);
  return hinted(what, guess && `did you mean ${guess}?`);
}

/** Sets the namespace of an object from `-n` or -A. @throws Problem "bad-input" in calicoctl's words. */
export function placeInNamespace(call: Call, resource: Resource): void {
  const { metadata } = resource;
  const all = call.flags.on("all-namespaces");
  const wanted = call.flags.text("namespace") ?? "";
  if (!kindByName(resource.kind).namespaced) {
    if (metadata.namespace) {
      const what = "namespace should not be specified for a non-namespaced resource.";
      throw badInput(`${what} ${resource.kind} is not a namespaced resource`);
    }
    if (all || wanted) throw badInput(`${resource.kind} is not namespaced`);
    return;
  }
  if (all && wanted) throw badInput("cannot use both --namespace and --all-namespaces flags at the same time");
  if (all) delete metadata.namespace;
  else if (!metadata.namespace) metadata.namespace = wanted || "default";
  else if (wanted && wanted !== metadata.namespace) {
    throw badInput(`resource namespace does not match client namespace. ${metadata.namespace} != ${wanted}`);
  }
}

/** Does `work` for each object; goes on after an error unless `stopAtError`, which then counts as handled. */
export async function forEach(
  call: Call,
  documents: readonly Document[],
  work: (resource: Resource, kind: Kind) => Promise<unknown>,
): Promise<Outcome> {
  outputOf(call); // a wrong -o is refused before anything is written
  const kindsSeen = new Set(documents.map((d) => d.resource.kind));
  const outcome: Outcome = { total: documents.length, handled: 0, errors: [], done: [] };
  if (kindsSeen.size === 1) outcome.kind = documents[0]!.resource.kind;
  using progress = new Progress(call.surroundings);
  for (const [i, { resource, where }] of documents.entries()) {
    progress.step(`${i} of ${documents.length} objects`);
    try {
      placeInNamespace(call, resource);
      await work(resource, kindByName(resource.kind));
      outcome.handled++;
      outcome.done.push(`${identify(resource.kind, resource.metadata.name, resource.metadata.namespace)} in ${where}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const skipped = isProblem(error, "exists") && call.flags.on("skip-exists") ||
        isProblem(error, "not-found") && call.flags.on("skip-not-exists");
      if (skipped) outcome.handled++;
      else outcome.errors.push({ error, where });
    }
  }
  return outcome;
}

/** Tells programs what was done, and what was not and why. @returns the exit code. */
export function tellJson(call: Call, { total, handled, errors, done }: Outcome): number {
  const failed = errors.map(({ error, where }) => ({
    where,
    why: messageOf(error),
    fields: error instanceof Problem ? error.fields : undefined,
  }));
  call.surroundings.out(`${writeJson({ total, handled, done, failed }, 2)}\n`);
  return errors.length > 0 ? 1 : 0;
}

/** Tells what create, apply or validate did. @returns the exit code. */
export function report(call: Call, outcome: Outcome, verb: string, past: string): number {
  if (outputOf(call) === "json") return tellJson(call, outcome);
  const { total, handled, errors, kind } = outcome;
  const list = `[${errors.map(({ error }) => messageOf(error)).join(" ")}]`;
  const { surroundings } = call;
  if (total === 0) surroundings.out("No resources specified\n");
  else if (errors.length === 0) surroundings.out(`Successfully ${past} ${handled} ${quoted(kind)}resource(s)\n`);
  else if (handled === 0) {
    const which = total === 1 ? `${quoted(kind)}resource` : kind ? `any '${kind}' resources` : "any resources";
    surroundings.err(`failed to ${verb} ${which}: ${list}\n`);
  } else {
    if (handled > errors.length) {
      surroundings.out(`Partial success: ${past} the first ${handled} out of ${total} ${quoted(kind)}resources:\n`);
    }
    surroundings.err(`hit error: ${list}\n`);
  }
  hint(call, outcome);
  return errors.length > 0 ? 1 : 0;
}

/** Says to people what was done and where the faulty objects stand; programs get calicoctl's output alone. */
export function hint(call: Call, { errors, done }: Outcome): void {
  if (!call.surroundings.terminal || errors.length === 0) return;
  for (const one of done) call.surroundings.err(`  done: ${one}\n`);
  for (const { error, where } of errors) {
    const fields = (error instanceof Problem ? error.fields : undefined)?.map((f) => f.field).join(", ");
    call.surroundings.err(`  not done: in ${where}${fields ? `: ${fields}` : ""}\n`);
  }
}

const quoted = (kind: string | undefined): string => (kind ? `'${kind}' ` : "");
