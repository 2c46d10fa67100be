import { ApiAccess, askedBy } from "./api_access.ts";
import { ApiObject, ApiObjects, Change, Filter, matches } from "./api_objects.ts";

/** Resources that are served: plural, kind, whether they live in a namespace. */
const resources: Record<string, { kind: string; group: string; namespaced: boolean }> = {
  namespaces: { kind: "Namespace", group: "v1", namespaced: false },
  nodes: { kind: "Node", group: "v1", namespaced: false },
  pods: { kind: "Pod", group: "v1", namespaced: true },
  serviceaccounts: { kind: "ServiceAccount", group: "v1", namespaced: true },
  services: { kind: "Service", group: "v1", namespaced: true },
  configmaps: { kind: "ConfigMap", group: "v1", namespaced: true },
  endpoints: { kind: "Endpoints", group: "v1", namespaced: true },
  endpointslices: { kind: "EndpointSlice", group: "discovery.k8s.io/v1", namespaced: true },
  networkpolicies: { kind: "NetworkPolicy", group: "networking.k8s.io/v1", namespaced: true },
  clusternetworkpolicies: {
    kind: "ClusterNetworkPolicy",
    group: "policy.networking.k8s.io/v1alpha2",
    namespaced: false,
  },
  adminnetworkpolicies: { kind: "AdminNetworkPolicy", group: "policy.networking.k8s.io/v1alpha1", namespaced: false },
  events: { kind: "Event", group: "v1", namespaced: true },
  clusterroles: { kind: "ClusterRole", group: "rbac.authorization.k8s.io/v1", namespaced: false },
  clusterrolebindings: { kind: "ClusterRoleBinding", group: "rbac.authorization.k8s.io/v1", namespaced: false },
  roles: { kind: "Role", group: "rbac.authorization.k8s.io/v1", namespaced: true },
  rolebindings: { kind: "RoleBinding", group: "rbac.authorization.k8s.io/v1", namespaced: true },
};

/** What a request is about. */
interface Target {
  resource: string;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string | undefined;
}

/** How the API answers. */
export interface ApiOptions {
  objects: ApiObjects;
  /** `Authorization: Bearer <token>` of who may do anything; accounts' tokens are made by token requests. */
  token: string;
  /** Called with "GET /api/v1/…" of every request, and the account ("kube-system/x") when it is not the administrator. */
  onRequest?: (line: string, account: string | undefined) => void;
  /** A fault: the answer to a request, in place of the right one. */
  refuse?: (line: string) => Response | undefined;
}

/**
 * A Kubernetes API as far as network agents use it: get, list (selectors, pages), watch (history, bookmarks, 410 Gone),
 * create, update with conflicts, merge patch, delete, token requests. Objects are kept as they come, without validation.
 */
export function apiHandler(options: ApiOptions): (request: Request) => Response | Promise<Response> {
  const access = new ApiAccess(options.objects);
  return async (request) => {
    const url = new URL(request.url), line = `${request.method} ${url.pathname}${url.search}`;
    const token = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const account = access.accountOf(token);
    options.onRequest?.(line, account);
    const fault = options.refuse?.(line);
    if (fault) return fault;
    if (["/healthz", "/readyz", "/livez"].includes(url.pathname)) return new Response("ok");
    if (token !== options.token && account === undefined) return failure(401, "Unauthorized");
    if (url.pathname === "/version") return Response.json({ major: "1", minor: "31", gitVersion: "v1.31.0-lab" });
    const asked = askedBy(line);
    if (account !== undefined && !(asked && access.allows(account, asked))) {
      return failure(403, "Forbidden", `${account} cannot ${asked?.verb} ${asked?.resource}`);
    }
    const target = targetOf(url.pathname);
    if (!target) return failure(404, "NotFound", `${url.pathname} is not served here`);
    if (request.method === "GET") return read(options.objects, target, url.searchParams);
    return await write(options, access, target, request);
  };
}

function targetOf(path: string): Target | undefined {
  const [, group, rest] = /^\/(?:api\/(v1)|apis\/[^/]+\/[^/]+)\/(.+)$/.exec(path) ?? [];
  if (rest === undefined) return undefined;
  const parts = rest.split("/").map(decodeURIComponent);
  let namespace: string | undefined;
  if (parts[0] === "namespaces" && parts.length > 2 && resources[parts[2]!]) namespace = parts.splice(0, 2)[1];
  const [resource, name, subresource] = parts as [string, string | undefined, string | undefined];
  const known = resources[resource];
  if (!known || (known.group === "v1") !== (group === "v1")) return undefined;
  return { resource, namespace, name, subresource };
}

function read(objects: ApiObjects, target: Target, query: URLSearchParams): Response {
  const { resource, namespace, name } = target;
  if (name !== undefined) {
    const object = objects.get(resource, namespace, name);
    return object ? Response.json(shown(resource, object)) : missing(resource, name);
  }
  const filter: Filter = {
    ...(namespace === undefined ? {} : { namespace }),
    labels: query.get("labelSelector") ?? "",
    fields: query.get("fieldSelector") ?? "",
  };
  if (["true", "1"].includes(query.get("watch") ?? "")) {
    // As an API server over etcd 3.4, which has no streaming lists: clients then list.
    if (query.get("sendInitialEvents")) return failure(422, "Invalid", "sendInitialEvents is forbidden for watch");
    return watch(objects, resource, filter, query);
  }
  return list(objects, resource, filter, query);
}

function list(objects: ApiObjects, resource: string, filter: Filter, query: URLSearchParams): Response {
  const from = Number(query.get("continue") ?? 0), limit = Number(query.get("limit") ?? 0) || Infinity;
  const all = objects.list(resource, filter), page = all.slice(from, from + limit);
  const more = from + page.length < all.length ? { continue: String(from + page.length) } : {};
  const { kind, group } = resources[resource]!;
  return Response.json({
    kind: `${kind}List`,
    apiVersion: group,
    metadata: { resourceVersion: String(objects.version), ...more },
    items: page.map((o) => shown(resource, o)),
  });
}

/** A stream of one JSON event a line. Without a version to start from it begins with all objects. */
function watch(objects: ApiObjects, resource: string, filter: Filter, query: URLSearchParams): Response {
  const timeoutMs = (Number(query.get("timeoutSeconds")) || 1800) * 1000;
  const bookmarks = query.get("allowWatchBookmarks") === "true";
  const asked = query.get("resourceVersion") ?? "";
  const closed = new AbortController();
  const events = async function* (): AsyncGenerator<unknown, void> {
    let version = Number(asked || 0);
    if (version === 0) {
      version = objects.version;
      for (const object of objects.list(resource, filter)) yield { type: "ADDED", object: shown(resource, object) };
    }
    const over = AbortSignal.any([closed.signal, AbortSignal.timeout(timeoutMs)]);
    const end = new Promise<void>((resolve) => over.addEventListener("abort", () => resolve(), { once: true }));
    while (!over.aborted) {
      const next = objects.changed(); // taken before the look, so that no change falls between
      const changes = objects.since(version);
      if (!changes) {
        yield { type: "ERROR", object: status(410, "Expired", "too old resource version") };
        return;
      }
      for (const change of changes) {
        version = change.version;
        const event = eventOf(change, resource, filter);
        if (event) yield event;
      }
      await Promise.race([next, end]);
    }
    if (bookmarks) yield { type: "BOOKMARK", object: bookmark(resource, version) };
  };
  const iterator = events();
  const body = new ReadableStream<Uint8Array>({
    async pull(out) {
      const { done, value } = await iterator.next();
      if (done) out.close();
      else out.enqueue(new TextEncoder().encode(JSON.stringify(value) + "\n"));
    },
    cancel: () => closed.abort(),
  });
  return new Response(body, { headers: { "content-type": "application/json" } });
}

/** An object that enters or leaves the filter by a change is added or deleted for this watch. */
function eventOf(change: Change, resource: string, filter: Filter): unknown {
  if (change.resource !== resource) return undefined;
  const now = change.type !== "DELETED" && matches(change.object, filter);
  const before = change.before !== undefined && matches(change.before, filter);
  if (!now && !before) return undefined;
  return { type: now ? (before ? "MODIFIED" : "ADDED") : "DELETED", object: shown(resource, change.object) };
}

async function write(options: ApiOptions, access: ApiAccess, target: Target, request: Request): Promise<Response> {
  const { objects } = options;
  const { resource, namespace, name, subresource } = target;
  if (request.method === "DELETE") {
    const gone = name === undefined ? undefined : objects.delete(resource, namespace, name);
    return gone ? Response.json(shown(resource, gone)) : missing(resource, name ?? "");
  }
  const body = await request.json() as ApiObject;
  if (resource === "serviceaccounts" && subresource === "token") {
    const { expirationSeconds = 3600 } = (body.spec ?? {}) as { expirationSeconds?: number };
    const expirationTimestamp = new Date(Date.now() + expirationSeconds * 1000).toISOString();
    const status = { token: access.issue(namespace!, name!, expirationSeconds), expirationTimestamp };
    return Response.json({ kind: "TokenRequest", status }, { status: 201 });
  }
  if (namespace !== undefined && body.metadata) body.metadata.namespace = namespace;
  const wanted = name ?? body.metadata?.name;
  if (!wanted) return failure(400, "BadRequest", "metadata.name is missing");
  const current = objects.get(resource, namespace, wanted);
  if (request.method === "POST") {
    if (current) return failure(409, "AlreadyExists", `${resource} "${wanted}" already exists`);
    return Response.json(shown(resource, objects.put(resource, body)), { status: 201 });
  }
  if (!current) return missing(resource, wanted);
  const given = request.method === "PATCH" ? mergePatch(current, body) as ApiObject : body;
  const next = subresource === "status" ? { ...current, metadata: given.metadata, status: given.status } : given;
  const version = next.metadata?.resourceVersion;
  if (version !== undefined && version !== current.metadata.resourceVersion) {
    return failure(409, "Conflict", `${resource} "${wanted}": the object has been modified`);
  }
  return Response.json(shown(resource, objects.put(resource, next)));
}

/** RFC 7396. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = typeof target === "object" && target !== null ? { ...target } : {};
  for (const [k, v] of Object.entries(patch)) {
    if (v === null) delete result[k];
    else result[k] = mergePatch(result[k], v);
  }
  return result;
}

/** The object with the kind and version that the API adds. */
function shown(resource: string, object: ApiObject): ApiObject {
  const { kind, group } = resources[resource]!;
  return { ...object, kind, apiVersion: group };
}

const bookmark = (resource: string, version: number): ApiObject =>
  shown(resource, { metadata: { name: "", resourceVersion: String(version) } });

const status = (code: number, reason: string, message: string) => ({
  ...{ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure" },
  ...{ message, reason, code },
});

const failure = (code: number, reason: string, message: string = reason) =>
  Response.json(status(code, reason, message), { status: code });

const missing = (resource: string, name: string) => failure(404, "NotFound", `${resource} "${name}" not found`);
