import { shapeResource, type Undecodable } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import { kindByName } from "../../datastore/kinds/index.ts";
import { sameJson } from "../../lib/json64.ts";

/** Annotation that says what of a Kubernetes object could not be followed: that part allows nothing. */
export const problemsAnnotation = "tortie/not-followed";

/** What must be done so that a stored object is as it should be. */
export type Step =
  | { do: "nothing" }
  | { do: "create"; resource: Resource }
  | { do: "update"; resource: Resource }
  /** What is stored cannot be read; it is written over. */
  | { do: "overwrite"; resource: Resource; revision: bigint }
  | { do: "delete" }
  /** A node that is gone in Kubernetes, where it is called `nameThere`, goes with all that is only about it. */
  | { do: "remove node"; name: string; nameThere: string };

/** A stored object, or what stands in its key. */
export type Have = Resource | Undecodable | undefined;

/**
 * The step to an object of which we own everything but the metadata, and of that the annotation above; labels and
 * annotations of others stay. Source: Calico kube-controllers/pkg/cache/cache.go, which compares without metadata too.
 */
export function stepTo(want: Resource | undefined, have: Have): Step {
  if (!want) return { do: have ? "delete" : "nothing" };
  if (!have) return { do: "create", resource: want };
  if ("undecodable" in have) return { do: "overwrite", resource: want, revision: (have as Undecodable).revision };
  const stored = have as Resource;
  const said = want.metadata.annotations?.[problemsAnnotation];
  const isSame = sameJson(contentOf(asWritten(want)), contentOf(stored)) &&
    stored.metadata.annotations?.[problemsAnnotation] === said;
  if (isSame) return { do: "nothing" };
  const { [problemsAnnotation]: _, ...others } = stored.metadata.annotations ?? {};
  const annotations = said === undefined ? others : { ...others, [problemsAnnotation]: said };
  const { metadata: __, ...content } = want;
  return { do: "update", resource: { ...stored, ...content, metadata: { ...stored.metadata, annotations } } };
}

/** With what every write fills in. */
function asWritten(want: Resource): Resource {
  const copy = structuredClone(want);
  kindByName(want.kind).defaults(copy);
  return copy;
}

/** All that is stored of an object but its metadata and what others report about it. */
function contentOf(resource: Resource): Record<string, unknown> {
  const { metadata: _, status: __, ...content } = shapeResource(resource);
  return content;
}
