import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { readResource, shapeResource, unknownMembers } from "../datastore/codec.ts";
import { apiVersion, type Kind, type Resource } from "../datastore/kind.ts";
import { refuseUnknown } from "../datastore/unknown_members.ts";

/** Where a request's path says that its object is. */
export interface Place {
  name?: string;
  namespace?: string;
}

/** Largest body that is read, in bytes; etcd takes 1.5 MiB. */
export const maxBody = 2 << 20;

/** A response with JSON whose integers are exact. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(`${writeJson(value)}\n`, { status, headers: { "content-type": "application/json", ...headers } });
}

/** The object as clients see it. */
export const shown = (resource: Resource): Json => shapeResource(resource, true) as Json;

const bad = (what: string, todo?: string): Problem => new Problem({ code: "bad-input", what, todo });

/** The JSON of a body. @throws Problem "bad-input". */
export async function readBody(request: Request): Promise<Record<string, Json>> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBody) throw tooLong();
  const text = await limitedText(request);
  try {
    const value = parseJson(text);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw bad(`the body is not JSON: ${error.message}`);
  }
  throw bad("the body is not a JSON object");
}

const tooLong = () => bad(`the body is longer than ${maxBody >> 20} MiB`, "Split it: one object a request");

async function limitedText(request: Request): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length > maxBody) throw tooLong();
    chunks.push(chunk);
  }
  try {
    return await new Blob(chunks as BlobPart[]).arrayBuffer().then((b) =>
      new TextDecoder("utf-8", { fatal: true }).decode(b)
    );
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw bad("the body is not UTF-8");
  }
}

/**
 * The object of a body: of the kind and at the place that the path says, strictly read.
 * @param strict refuses members that the kind does not know, except those in `known`.
 * @throws Problem "bad-input".
 */
export function objectOf(
  kind: Kind,
  body: Record<string, Json>,
  place: Place,
  { strict, known = [] }: { strict: boolean; known?: readonly string[] },
): Resource {
  const { kind: kindSaid = kind.kind, apiVersion: versionSaid = apiVersion, ...content } = body;
  if (kindSaid !== kind.kind || versionSaid !== apiVersion) {
    throw bad(`the body is a ${kindSaid} of ${versionSaid}, the path asks for a ${kind.kind} of ${apiVersion}`);
  }
  const resource = readResource(kind, { spec: {}, ...content });
  if (typeof resource === "string") throw bad(`the ${kind.kind} cannot be read: ${resource}`);
  for (const member of ["name", "namespace"] as const) {
    const asked = place[member], said = resource.metadata[member];
    if (asked === undefined) continue;
    if (said && said !== asked) throw bad(`metadata.${member} is "${said}", the path says "${asked}"`);
    resource.metadata[member] = asked;
  }
  if (strict) refuseUnknown(kind, unknownMembers(kind, resource).filter((path) => !known.includes(path)));
  return resource;
}
