/** A Kubernetes object. */
export interface ApiObject {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    creationTimestamp?: string;
    labels?: Record<string, string>;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

/** One change of the store's history. `before` is the object before it, for watches that filter. */
export interface Change {
  version: number;
  resource: string;
  type: "ADDED" | "MODIFIED" | "DELETED";
  object: ApiObject;
  before: ApiObject | undefined;
}

/** Which objects a list or watch is about. */
export interface Filter {
  namespace?: string;
  /** `a=b,c!=d,e` as the API takes it. */
  labels?: string;
  /** `spec.nodeName=h1,metadata.name=x`. */
  fields?: string;
}

/** The API's objects in memory, with the history that watches read. Resources are plurals: "pods". */
export class ApiObjects {
  #objects = new Map<string, Map<string, ApiObject>>();
  #history: Change[] = [];
  #version = 1;
  #oldest = 1;
  #wake = Promise.withResolvers<void>();

  /** The newest resourceVersion. */
  get version(): number {
    return this.#version;
  }

  get(resource: string, namespace: string | undefined, name: string): ApiObject | undefined {
    return this.#objects.get(resource)?.get(`${namespace ?? ""}/${name}`);
  }

  list(resource: string, filter: Filter): ApiObject[] {
    const all = [...this.#objects.get(resource)?.entries() ?? []].sort(([a], [b]) => (a < b ? -1 : 1));
    return all.map(([, o]) => o).filter((o) => matches(o, filter));
  }

  /** Creates or replaces. Gives uid, times and version as the API server does. */
  put(resource: string, object: ApiObject): ApiObject {
    const before = this.get(resource, object.metadata.namespace, object.metadata.name);
    const stored = structuredClone(object);
    stored.metadata.uid = before?.metadata.uid ?? object.metadata.uid ?? crypto.randomUUID();
    stored.metadata.creationTimestamp = before?.metadata.creationTimestamp ??
      new Date().toISOString().replace(/\.\d+Z$/, "Z");
    stored.metadata.resourceVersion = String(++this.#version);
    const table = this.#objects.get(resource) ?? new Map<string, ApiObject>();
    this.#objects.set(resource, table.set(`${object.metadata.namespace ?? ""}/${object.metadata.name}`, stored));
    this.#tell({ version: this.#version, resource, type: before ? "MODIFIED" : "ADDED", object: stored, before });
    return stored;
  }

  /** Deletes; undefined when it does not exist. The event carries the version of the deletion. */
  delete(resource: string, namespace: string | undefined, name: string): ApiObject | undefined {
    const before = this.get(resource, namespace, name);
    if (!before) return undefined;
    this.#objects.get(resource)!.delete(`${namespace ?? ""}/${name}`);
    const object = structuredClone(before);
    object.metadata.resourceVersion = String(++this.#version);
    this.#tell({ version: this.#version, resource, type: "DELETED", object, before });
    return object;
  }

  /** Forgets the history: watches from before now get 410 Gone, as after etcd's compaction. */
  expire(): void {
    this.#history = [];
    this.#oldest = this.#version + 1;
  }

  /** Changes after `version`; undefined when they are not kept any more. */
  since(version: number): Change[] | undefined {
    return version + 1 < this.#oldest ? undefined : this.#history.filter((c) => c.version > version);
  }

  /** Resolves at the next change. */
  changed(): Promise<void> {
    return this.#wake.promise;
  }

  #tell(change: Change): void {
    this.#history.push(change);
    if (this.#history.length > 5000) this.#oldest = this.#history.shift()!.version + 1;
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
  }
}

/** True when the object is in the namespace and both selectors hold. */
export function matches(object: ApiObject, filter: Filter): boolean {
  if (filter.namespace !== undefined && object.metadata.namespace !== filter.namespace) return false;
  const terms = (text: string | undefined) => (text ?? "").split(",").map((t) => t.trim()).filter((t) => t !== "");
  const holds = (term: string, value: (name: string) => unknown): boolean => {
    const [, name, sign, wanted] = /^([^=!]+?)\s*(==|=|!=)\s*(.*)$/.exec(term) ?? [];
    if (name === undefined) return term[0] === "!" ? value(term.slice(1)) === undefined : value(term) !== undefined;
    return (String(value(name) ?? "") === wanted) === (sign !== "!=");
  };
  return terms(filter.labels).every((t) => holds(t, (n) => object.metadata.labels?.[n])) &&
    terms(filter.fields).every((t) => holds(t, (n) => fieldOf(object, n)));
}

function fieldOf(object: unknown, path: string): unknown {
  return path.split(".").reduce((o, part) => (o as Record<string, unknown> | undefined)?.[part], object);
}
