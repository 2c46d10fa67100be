import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { decodeResource, isUndecodable, shapeResource } from "../datastore/codec.ts";
import { type Author, type History, readHistory, type State } from "../datastore/history.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { KeyValue } from "../datastore/store.ts";
import type { Resource } from "../datastore/kind.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import { identify } from "../datastore/problems.ts";
import type { Resources } from "../datastore/resources.ts";
import { badInput, type Call } from "./command.ts";
import { lineDiff } from "./line_diff.ts";
import { named, placeInNamespace } from "./writing.ts";
import { yamlText } from "./yaml_text.ts";

/** An object that was named on the command line, and what is known of its past. */
export interface Past extends History {
  kind: string;
  name: string;
  namespace?: string;
  key: string;
  /** For messages: `IPPool(main)`. */
  id: string;
}

/** The past of `KIND NAME`. @throws Problem "not-found" when nothing at all is known of it. */
export async function pastOf(call: Call, resources: Resources): Promise<Past> {
  const { resource } = named(call)[0]!;
  placeInNamespace(call, resource);
  const { name, namespace } = resource.metadata;
  if (!name || kindByName(resource.kind).namespaced && !namespace) throw badInput("one object has to be named");
  const key = resourceKey(resource.kind, name, namespace);
  const id = identify(resource.kind, name, namespace);
  const history = await readHistory(resources.store, key);
  if (history.states.length > 0) return { ...history, kind: resource.kind, name, namespace, key, id };
  throw new Problem({ code: "not-found", what: `${id} does not exist, and nothing is known of its past` });
}

/** Who made a change: `ann@n1 (from 203.0.113.7)`. */
export const authorText = (by: Author | undefined): string =>
  by ? `${by.user}@${by.host}${by.from ? ` (from ${by.from})` : ""}` : "others, who keep no history";

/** The state's content as YAML, without what etcd and Calico's client give it; "" when it did not exist. */
export function contentText(past: Past, state: State | undefined): string {
  if (state?.value === undefined) return "";
  const resource = asResource(past, state.value);
  if (typeof resource === "string") return state.value;
  const shaped = shapeResource(resource, true) as Record<string, Json>;
  const metadata = isObject(shaped.metadata) ? { ...shaped.metadata } : {};
  for (const member of ["uid", "creationTimestamp", "resourceVersion"]) delete metadata[member];
  return yamlText({ ...shaped, metadata }).trimEnd();
}

/** What changed from one state to another. */
export const changeText = (past: Past, before: State | undefined, after: State | undefined): string =>
  lineDiff(contentText(past, before), contentText(past, after));

/**
 * The object as it was, to be stored over what stands there now, whose identity it takes.
 * @throws Problem "unsupported" when its value was not kept, "undecodable".
 */
export function asItWas(past: Past, state: State): Resource {
  if (state.value === undefined) {
    const what = `state ${state.number} of ${past.id} was too large to be kept`;
    throw new Problem({ code: "unsupported", what, todo: "Choose another one" });
  }
  const resource = asResource(past, state.value);
  if (typeof resource === "string") {
    throw new Problem({ code: "undecodable", what: `state ${state.number} of ${past.id} cannot be read: ${resource}` });
  }
  const { name, namespace, labels, annotations } = resource.metadata;
  const now = past.current && asResource(past, past.current.value);
  const identity = typeof now === "object"
    ? { ...now.metadata, resourceVersion: String(past.current!.revision) }
    : { name, namespace };
  return { ...resource, metadata: { ...identity, labels, annotations } };
}

/** The object that a stored value is; a sentence when it is none. */
function asResource({ key }: Past, value: string): Resource | string {
  try {
    parseJson(value);
  } catch (error) {
    return messageOf(error);
  }
  const kv: KeyValue = { key, value, revision: 0n, created: 0n };
  const resource = decodeResource(kv);
  if (!resource) return "not of a known kind";
  return isUndecodable(resource) ? resource.why : resource;
}
