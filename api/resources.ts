import { Hono } from "hono";
import { Problem } from "../lib/problem.ts";
import type { Json } from "../lib/json64.ts";
import { merge } from "../lib/json_merge.ts";
import { nearest } from "../lib/nearest.ts";
import { unknownMembers } from "../datastore/codec.ts";
import { refuseForeign } from "../datastore/foreign.ts";
import { apiVersion, type Kind, type Resource } from "../datastore/kind.ts";
import { kinds } from "../datastore/kinds/index.ts";
import { Resources } from "../datastore/resources.ts";
import { labelled } from "../datastore/labelled.ts";
import { removeResource } from "../ipam/removal.ts";
import type { Caller } from "./access.ts";
import { eventsOf } from "./events.ts";
import { json, objectOf, type Place, readBody, shown } from "./objects.ts";
import type { ApiParts } from "./parts.ts";

/** Kinds that clients see. */
export const served: readonly Kind[] = kinds.filter((k) => !k.internal);

/** Below it lie all resources, as they would in Kubernetes' API. */
export const basePath = `/apis/${apiVersion}`;

/** Times a patch without resourceVersion is laid over a newer object when another writer was faster. */
const tries = 5;

/** Reading and changing objects, with the checks and the optimistic locking of `ctl`. */
export function resourceRoutes(parts: ApiParts): Hono<{ Variables: { caller: Caller } }> {
  const app = new Hono<{ Variables: { caller: Caller } }>();
  const one = new ResourceCalls(parts);
  app.get("/", () => json(discovery()));
  for (
    const [list, object] of [
      ["/:plural", "/:plural/:name"],
      ["/namespaces/:namespace/:plural", "/namespaces/:namespace/:plural/:name"],
    ] as const
  ) {
    app.get(list, (c) => one.list(c.req.raw, kindOf(c.req.param()), place(c.req.param())));
    app.post(list, (c) => one.create(c.req.raw, kindOf(c.req.param()), place(c.req.param()), c.get("caller")));
    app.get(object, (c) => one.get(c.req.raw, kindOf(c.req.param()), place(c.req.param())));
    app.put(object, (c) => one.replace(c.req.raw, kindOf(c.req.param()), place(c.req.param()), c.get("caller")));
    app.patch(object, (c) => one.patch(c.req.raw, kindOf(c.req.param()), place(c.req.param()), c.get("caller")));
    app.delete(object, (c) => one.remove(c.req.raw, kindOf(c.req.param()), place(c.req.param()), c.get("caller")));
  }
  return app;
}

/** What is served, as Kubernetes' APIResourceList. */
function discovery(): Json {
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion: apiVersion,
    resources: served.map(({ kind, plural, shortNames, namespaced }) => ({
      ...{ name: plural, singularName: kind.toLowerCase(), kind, namespaced, shortNames: [...shortNames] },
      verbs: ["get", "list", "watch", "create", "update", "patch", "delete"],
    })),
  };
}

type Params = { plural?: string; name?: string; namespace?: string };

/** @throws Problem "not-found" with the nearest kind. */
function kindOf({ plural = "", namespace }: Params): Kind {
  const kind = served.find((k) => k.plural === plural);
  if (!kind) {
    const guess = nearest(plural, served.map((k) => k.plural));
    throw new Problem({
      code: "not-found",
      what: `there is no kind "${plural}"`,
      todo: guess ? `Did you mean ${guess}?` : `${basePath} lists the kinds`,
    });
  }
  if (namespace !== undefined && !kind.namespaced) {
    const todo = `It is at ${basePath}/${plural}`;
    throw new Problem({ code: "not-found", what: `${kind.kind} is in no namespace`, todo });
  }
  return kind;
}

const place = ({ name, namespace }: Params): Place => ({ name, namespace });

class ResourceCalls {
  constructor(private readonly parts: ApiParts) {}

  #resources(caller?: Caller, command?: string): Resources {
    const { store, clock, host } = this.parts;
    return new Resources(store, { clock, author: caller && { user: caller.name, host, from: caller.from, command } });
  }

  /** A list at one revision, or from `resourceVersion` on every change when `watch` asks for it. */
  async list(request: Request, kind: Kind, { namespace }: Place): Promise<Response> {
    const query = new URL(request.url).searchParams;
    const chosen = labelled(query.get("labelSelector") ?? query.get("selector") ?? undefined);
    if (isOn(query.get("watch"))) {
      return eventsOf(this.parts, { kind, namespace, chosen, signal: request.signal, from: resumeFrom(request) });
    }
    const list = await this.#resources().list(kind.kind, namespace);
    const items = list.items.filter(chosen).map(shown);
    return json({
      kind: `${kind.kind}List`,
      apiVersion,
      metadata: { resourceVersion: String(list.revision) },
      items,
      ...list.undecodable.length > 0
        ? { undecodable: list.undecodable.map(({ key, why }) => ({ key, why })) as unknown as Json }
        : {},
    });
  }

  async get(request: Request, kind: Kind, { name, namespace }: Place): Promise<Response> {
    if (isOn(new URL(request.url).searchParams.get("watch"))) {
      const chosen = (resource: Resource) => resource.metadata.name === name;
      return eventsOf(this.parts, { kind, namespace, chosen, signal: request.signal, from: resumeFrom(request) });
    }
    return json(shown(await this.#resources().get(kind.kind, name!, namespace)));
  }

  async create(request: Request, kind: Kind, place: Place, caller: Caller): Promise<Response> {
    const object = objectOf(kind, await readBody(request), place, { strict: isStrict(request) });
    refuseForeign(object, "create");
    return json(shown(await this.#resources(caller, `POST ${kind.plural}`).create(object)), 201);
  }

  /** Replaces a stored object; without a resourceVersion in it, whatever is stored, or nothing. */
  async replace(request: Request, kind: Kind, place: Place, caller: Caller): Promise<Response> {
    const object = objectOf(kind, await readBody(request), place, { strict: isStrict(request) });
    refuseForeign(object, "replace");
    const resources = this.#resources(caller, `PUT ${kind.plural}`);
    const { resource, done } = await resources.apply(object);
    return json(shown(resource), done === "created" ? 201 : 200);
  }

  /** JSON Merge Patch (RFC 7396) over the stored object. */
  async patch(request: Request, kind: Kind, place: Place, caller: Caller): Promise<Response> {
    const patch = await readBody(request);
    const resources = this.#resources(caller, `PATCH ${kind.plural}`);
    for (let left = tries;; left--) {
      const stored = await resources.get(kind.kind, place.name!, place.namespace);
      refuseForeign(stored, "patch");
      const given = (patch.metadata as { resourceVersion?: string } | undefined)?.resourceVersion;
      const merged = merge(shown(stored), patch) as Record<string, Json>;
      const object = objectOf(kind, merged, place, {
        strict: isStrict(request),
        known: unknownMembers(kind, stored),
      });
      try {
        return json(shown(await resources.update(object)));
      } catch (error) {
        if (!(error instanceof Problem && error.code === "conflict") || given !== undefined || left === 1) throw error;
      }
    }
  }

  /** Deletes an object, and answers it. A pool or node gives up its addresses first. */
  async remove(request: Request, kind: Kind, place: Place, caller: Caller): Promise<Response> {
    const resources = this.#resources(caller, `DELETE ${kind.plural}`);
    const stored = await resources.get(kind.kind, place.name!, place.namespace);
    refuseForeign(stored, "delete");
    const { name, namespace } = stored.metadata;
    const resourceVersion = new URL(request.url).searchParams.get("resourceVersion") ?? undefined;
    await removeResource(resources, this.parts, { kind: kind.kind, metadata: { name, namespace, resourceVersion } });
    return json(shown(stored));
  }
}

const isOn = (value: string | null): boolean => value !== null && value !== "false" && value !== "0";

/** `fieldValidation=Ignore` keeps members that no kind of this version knows, as Kubernetes' parameter of that name does. */
const isStrict = (request: Request): boolean => new URL(request.url).searchParams.get("fieldValidation") !== "Ignore";

/** After which revision a watch goes on: what an EventSource saw last, or the resourceVersion of a list. */
function resumeFrom(request: Request): bigint | undefined {
  const text = request.headers.get("last-event-id") ?? new URL(request.url).searchParams.get("resourceVersion") ?? "";
  if (text === "") return undefined;
  if (/^\d{1,18}$/.test(text)) return BigInt(text);
  throw new Problem({ code: "bad-input", what: `resourceVersion "${text}" is not a revision` });
}
