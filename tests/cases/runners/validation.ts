import { readResource, unknownMembers } from "../../../datastore/codec.ts";
import { ensureInitialized } from "../../../datastore/cluster.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { kindByName } from "../../../datastore/kinds/index.ts";
import { MemoryStore } from "../../../datastore/memory.ts";
import { Resources } from "../../../datastore/resources.ts";
import type { Json } from "../../../lib/json64.ts";
import { type FieldProblem, Problem } from "../../../lib/problem.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

/** Cases in which an object is written: the cluster before, the object, and for updates the one it replaces. */
export interface WriteInput {
  resource: Json;
  old?: Json;
  setup?: Json[];
  uninitialised?: boolean;
}

/** What a case expects of a write. */
interface Verdict {
  accept: boolean;
  error?: string;
  fields?: FieldProblem[];
}

/** validation.json: which objects are accepted, and which fields are refused why. */
export const runner: CaseRunner = {
  async run(one: Case): Promise<Outcome> {
    await using store = new MemoryStore();
    const resources = await clusterFor(store, one.input as unknown as WriteInput);
    const got = await verdictOf(resources, one.input as unknown as WriteInput);
    const expect = one.expect as Verdict;
    const [wanted, found] = [summary(expect), summary(got)];
    if (wanted === found) return { is: "passed" };
    return { is: "failed", difference: `expected ${wanted}\ngot      ${found}` };
  },
};

/** A cluster in memory as a case wants to find it. */
export async function clusterFor(store: MemoryStore, input: WriteInput): Promise<Resources> {
  const resources = new Resources(store);
  if (!input.uninitialised) await ensureInitialized(resources);
  for (const resource of input.setup ?? []) await resources.create(asResource(resource));
  return resources;
}

/** Creates the case's object, or creates the old one and updates it. */
export async function writeOf(resources: Resources, input: WriteInput): Promise<Resource> {
  if (input.old === undefined) return await resources.create(asResource(input.resource));
  const { metadata } = await resources.create(asResource(input.old));
  const { uid, resourceVersion, creationTimestamp } = metadata;
  const next = asResource(input.resource);
  return await resources.update({ ...next, metadata: { ...next.metadata, uid, resourceVersion, creationTimestamp } });
}

/** An object that could not be read as its kind. */
class Undecodable extends Error {}

function asResource(value: Json): Resource {
  const copy = structuredClone(value) as unknown as Resource;
  const read = readResource(kindByName(copy.kind), copy as unknown as Json);
  if (typeof read === "string") throw new Undecodable(read);
  // The cases come from a strict reader, as the command line's is.
  const unknown = unknownMembers(kindByName(read.kind), read);
  if (unknown.length > 0) throw new Undecodable(unknown.join(", "));
  return read;
}

async function verdictOf(resources: Resources, input: WriteInput): Promise<Verdict> {
  try {
    await writeOf(resources, input);
    return { accept: true };
  } catch (error) {
    if (error instanceof Undecodable) return { accept: false, error: "decode" };
    if (!(error instanceof Problem)) throw error;
    const names: Record<string, string> = {
      "validation": "validation",
      "exists": "exists",
      "not-found": "not-found",
      "unsupported": "not-supported",
    };
    return { accept: false, error: names[error.code] ?? "other", fields: error.fields };
  }
}

/**
 * One text of what a case says. Field names are Calico's own, to the letter; its own report of a reason lacks the frame
 * that Calico's command line prints, and the same breach counts once.
 */
function summary({ accept, error, fields = [] }: Verdict): string {
  if (accept) return "accepted";
  const bare = (reason: string) => reason.replace(/^Reason: /, "").trim();
  const lines = new Set(fields.map((f) => `\n  ${f.field}: ${bare(f.reason)}`));
  return `refused (${error})${[...lines].sort().join("")}`;
}
