import { type Clock, rfc3339, systemClock } from "../lib/clock.ts";
import { type Json, parseJson, sameJson } from "../lib/json64.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { decodeResource, encodeResource, isUndecodable, readResource, type Undecodable } from "./codec.ts";
import { type Author, historyKey, withChange } from "./history.ts";
import { kindPrefix, resourceKey } from "./keys.ts";
import {
  type Action,
  apiVersion,
  type Kind,
  type Metadata,
  type Needs,
  type Resource,
  resourcePrefix,
} from "./kind.ts";
import { kindByName } from "./kinds/index.ts";
import { alreadyExists, doesNotExist, identify, invalid, updateConflict } from "./problems.ts";
import {
  Compacted,
  type Compare,
  type KeyValue,
  prefixRange,
  type Snapshot,
  type Store,
  type Txn,
  type Write,
} from "./store.ts";
import { prepare, validate } from "./validation.ts";

/** What Resources needs from outside. */
export interface ResourcesOptions {
  clock?: Clock;
  /** Makes the uid of a new object. Default: a random UUID. */
  uuid?: () => string;
  /** Who writes: every change is put into the object's history by the same transaction. Absent = no history is kept. */
  author?: Author;
}

/** A list at one revision. `undecodable` are the values that could not be read. */
export interface ResourceList<R extends Resource = Resource> {
  items: R[];
  revision: bigint;
  undecodable: Undecodable[];
}

/** What apply() did. */
export interface Applied<R extends Resource> {
  resource: R;
  done: "created" | "configured" | "unchanged";
}

/** Times a write is tried when what it depends on keeps changing. */
const tries = 5;

/**
 * Resources with Calico's rules: defaults, validation, references, optimistic locking. Every write is one transaction
 * that compares what its checks looked at, so no rule is broken by two writers at once. Failures are Problems whose
 * `what` is Calico's sentence: "validation", "exists", "not-found", "conflict", "unsupported".
 */
export class Resources {
  readonly #clock: Clock;
  readonly #uuid: () => string;
  /** Undefined also for a user who may not write histories: that is no reason to change nothing. */
  #author: Author | undefined;

  constructor(readonly store: Store, options: ResourcesOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#uuid = options.uuid ?? (() => crypto.randomUUID());
    this.#author = options.author;
  }

  /** Stores a new object and answers it as stored. The argument is not changed. */
  create<R extends Resource>(resource: R): Promise<R> {
    return this.#write("create", resource);
  }

  /** Replaces a stored object; `metadata.resourceVersion` must be the stored one's. */
  update<R extends Resource>(resource: R): Promise<R> {
    return this.#write("update", resource);
  }

  /**
   * Creates the object, or replaces the stored one's spec, labels and annotations by it. A given resourceVersion must
   * be the stored one's. Content that is stored already is not written again.
   */
  async apply<R extends Resource>(resource: R): Promise<Applied<R>> {
    const kind = kindByName(resource.kind);
    const { metadata } = resource;
    const name = metadata.name || kind.computeName(copyOf(resource));
    for (let left = tries;; left--) {
      const current = await this.#read<R>(kind.kind, name, metadata.namespace);
      if (!current) {
        const created = await this.#unlessRaced(left, "exists", () => this.create(resource));
        if (created) return { resource: created, done: "created" };
        continue;
      }
      const before = current.metadata.resourceVersion;
      if (metadata.resourceVersion && metadata.resourceVersion !== before) {
        throw updateConflict(identify(kind.kind, name, metadata.namespace));
      }
      const again = metadata.resourceVersion ? 1 : left;
      const stored = await this.#unlessRaced(again, "conflict", () => this.update(replaceContent(current, resource)));
      if (!stored) continue;
      return { resource: stored, done: stored.metadata.resourceVersion === before ? "unchanged" : "configured" };
    }
  }

  /** What `work` answers; undefined when another writer was faster and there are tries left. */
  async #unlessRaced<T>(left: number, code: "exists" | "conflict", work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (left > 1 && isProblem(error, code, "not-found")) return undefined;
      throw error;
    }
  }

  /**
   * Deletes one object and answers it. `resourceVersion` must be the stored one's when given. Pools and nodes hold
   * addresses: who deletes one releases them first (ipam/removal.ts).
   */
  async delete(kindName: string, name: string, namespace?: string, resourceVersion?: string): Promise<Resource> {
    const kind = kindByName(kindName);
    const id = identify(kindName, name, namespace);
    checkNamespace(kind, namespace);
    refuseIfForbidden(kind, "delete", { name, namespace });
    const key = resourceKey(kindName, name, namespace);
    for (let left = tries; left > 0; left--) {
      const needs = kind.deleteNeeds({ name, namespace });
      const seen = await this.#look(key, needs);
      const current = seen.values.get(key);
      if (!current) throw doesNotExist(id);
      if (resourceVersion && resourceVersion !== String(current.revision)) throw updateConflict(id);
      judge(needs, seen);
      const done = await this.#commit(current, compares(needs, seen), { delete: key });
      if (done.revision !== undefined) return lastState(kind, current, { name, namespace });
      if (!done.current) throw doesNotExist(id);
    }
    throw updateConflict(id);
  }

  /** One object. @throws Problem "not-found", or "undecodable" when the stored value cannot be read. */
  async get<R extends Resource = Resource>(kindName: string, name: string, namespace?: string): Promise<R> {
    checkNamespace(kindByName(kindName), namespace);
    const resource = await this.#read<R>(kindName, name, namespace);
    if (!resource) throw doesNotExist(identify(kindName, name, namespace));
    return resource;
  }

  /** All objects of a kind, or of one namespace, at one revision; by key unless the kind has an order of its own. */
  async list<R extends Resource = Resource>(kindName: string, namespace?: string): Promise<ResourceList<R>> {
    const kind = kindByName(kindName);
    const list: ResourceList = { items: [], revision: 0n, undecodable: [] };
    list.revision = await this.store.list(prefixRange(kindPrefix(kindName, namespace)), (kvs) => {
      for (const kv of kvs) {
        const value = decodeResource(kv);
        if (!value) continue;
        if (isUndecodable(value)) list.undecodable.push(value);
        else {
          kind.onRead(value, "list");
          list.items.push(value);
        }
      }
    });
    list.items.push(...kind.builtIn.map((r) => structuredClone(r)));
    if (kind.compare) list.items.sort(kind.compare);
    return list as ResourceList<R>;
  }

  /** The stored object, or the built-in one of that name; undefined when there is none. */
  async #read<R extends Resource>(kindName: string, name: string, namespace?: string): Promise<R | undefined> {
    const kind = kindByName(kindName);
    const builtIn = kind.builtIn.find((r) => r.metadata.name === name);
    if (builtIn) return structuredClone(builtIn) as R;
    if (name === "") return undefined;
    const kv = await this.store.get(resourceKey(kindName, name, namespace));
    return kv && read(kind, kv, "get") as R;
  }

  async #write<R extends Resource>(action: "create" | "update", given: R): Promise<R> {
    const kind = kindByName(given.kind);
    for (let left = tries; left > 0; left--) {
      const written = await this.#tryWrite(action, kind, copyOf(given));
      if (written) return written as R;
    }
    throw updateConflict(identify(kind.kind, given.metadata.name, given.metadata.namespace));
  }

  /** One try; undefined = something that its checks looked at changed meanwhile. `resource` is our own copy. */
  async #tryWrite(action: "create" | "update", kind: Kind, resource: Resource): Promise<Resource | undefined> {
    const { metadata } = resource;
    refuseIfForbidden(kind, action, metadata);
    metadata.name ||= kind.computeName(resource);
    const key = resourceKey(kind.kind, metadata.name, metadata.namespace);
    const stored = action === "update" && metadata.name ? await this.store.get(key) : undefined;
    const old = stored && read(kind, stored, "get");
    prepare(kind, resource, old);
    const needs = kind.needs(resource, old);
    const seen = needs && await this.#look(key, needs);
    judge(needs, seen);
    validate(kind, resource);
    checkIdentity(action, kind, metadata);
    const id = identify(kind.kind, metadata.name, metadata.namespace);
    if (action === "update" && !stored) throw doesNotExist(id);
    if (stored && metadata.resourceVersion !== String(stored.revision)) throw updateConflict(id);
    metadata.uid ||= this.#uuid();
    metadata.creationTimestamp ||= rfc3339(this.#clock.now());
    const value = encodeResource(resource);
    if (stored && sameJson(parseJson(stored.value), parseJson(value))) return old;
    const done = await this.#commit(stored, compares(needs, seen), { put: key, value });
    if (done.revision !== undefined) return read(kind, { key, value, revision: done.revision }, "get");
    return stillAs(stored?.revision ?? 0n, done.current, id);
  }

  /** An object's value and what its write depends on, at one revision. Ranges may be long, so they are read in pages. */
  async #look(key: string, needs: Needs | undefined): Promise<Snapshot> {
    const wanted = needs?.read ?? [];
    const seen = await this.store.read([key, ...wanted.filter((what) => typeof what === "string")]);
    for (const range of wanted.filter((what) => typeof what !== "string")) {
      const keep = (kvs: KeyValue[]) => kvs.forEach((kv) => seen.values.set(kv.key, kv));
      try {
        await this.store.list(range, keep, { at: seen.revision });
      } catch (error) {
        if (!(error instanceof Compacted)) throw error;
        return await this.#look(key, needs);
      }
    }
    return seen;
  }

  /**
   * Commits one write of an object that is still as `stored`, with its line of history, or answers what its key holds.
   * A lost answer leaves the outcome open: the same transaction is sent once more, and when it then meets its own
   * write, that one counts.
   */
  async #commit(
    stored: KeyValue | undefined,
    more: Compare[],
    write: Write,
  ): Promise<{ revision?: bigint; current?: KeyValue }> {
    const key = "put" in write ? write.put : write.delete;
    const line = await this.#historyLine(stored, write);
    const txn = {
      compare: [{ key, revision: stored?.revision ?? 0n }, ...more, ...line?.compare ?? []],
      write: [write, ...line?.write ?? []],
      onConflict: [key],
    };
    for (let doubt = false;; doubt = true) {
      try {
        const result = await this.store.txn(txn);
        if (result.committed) return { revision: result.revision };
        const current = result.current.get(key);
        const ours = "put" in write ? current?.value === write.value : !current;
        return doubt && ours ? { revision: current?.revision ?? result.revision } : { current };
      } catch (error) {
        if (line && isProblem(error, "unauthorized")) {
          this.#author = undefined;
          return await this.#commit(stored, more, write);
        }
        if (doubt || !isProblem(error, "unavailable")) throw error;
      }
    }
  }

  /** What a write adds to its transaction; undefined when no history is kept. */
  async #historyLine(stored: KeyValue | undefined, write: Write): Promise<Pick<Txn, "compare" | "write"> | undefined> {
    if (!this.#author) return undefined;
    const [objectKey, value] = "put" in write ? [write.put, write.value] : [write.delete];
    const key = historyKey(objectKey);
    try {
      const history = await this.store.get(key);
      const change = { at: rfc3339(this.#clock.now()), by: this.#author, value };
      return {
        compare: [{ key, revision: history?.revision ?? 0n }],
        write: [{ put: key, value: withChange(history, stored, change) }],
      };
    } catch (error) {
      if (!isProblem(error, "unauthorized")) throw error;
      this.#author = undefined;
      return undefined;
    }
  }
}

/** A copy that may be changed, read as stored values are. @throws Problem "bad-input" for what no kind's object can be. */
function copyOf<R extends Resource>(resource: R): R {
  const copy = readResource(kindByName(resource.kind), structuredClone(resource) as unknown as Json);
  if (typeof copy !== "string") return copy as unknown as R;
  throw new Problem({ code: "bad-input", what: copy, where: identify(resource.kind, resource.metadata?.name ?? "") });
}

/** The stored object as users see it. @throws Problem "undecodable". */
function read(kind: Kind, kv: Pick<KeyValue, "key" | "value" | "revision">, how: "get" | "list"): Resource {
  const value = decodeResource(kv)!;
  if (isUndecodable(value)) {
    const todo = "Delete it, or replace it with an older version of itself";
    throw new Problem({ code: "undecodable", what: `stored value cannot be read: ${value.why}`, where: kv.key, todo });
  }
  kind.onRead(value, how);
  return value;
}

/** What was deleted; when it could not be read, no more than its name. */
function lastState(kind: Kind, kv: KeyValue, { name, namespace }: Metadata): Resource {
  const value = decodeResource(kv)!;
  return isUndecodable(value) ? { kind: kind.kind, apiVersion, metadata: { name, namespace }, spec: {} } : value;
}

/** @throws Problem when a key that should hold `expected` does not; else something beside it has changed. */
function stillAs(expected: bigint, current: KeyValue | undefined, id: string): undefined {
  if ((current?.revision ?? 0n) === expected) return undefined;
  if (!current) throw doesNotExist(id);
  throw expected === 0n ? alreadyExists(id) : updateConflict(id);
}

function refuseIfForbidden(kind: Kind, action: Action, metadata: Metadata): void {
  const problem = kind.forbids(action, metadata);
  if (problem) throw problem;
}

function judge(needs: Needs | undefined, seen: Snapshot | undefined): void {
  const problem = seen && needs?.verdict(seen.values);
  if (problem) throw problem;
}

/** What must still hold of what was seen. */
function compares(needs: Needs | undefined, seen: Snapshot | undefined): Compare[] {
  if (!needs || !seen) return [];
  return needs.read.map((what) =>
    typeof what === "string"
      ? { key: what, revision: seen.values.get(what)?.revision ?? 0n }
      : { range: what, unchangedSince: seen.revision }
  );
}

/** Rules on what identifies an object. */
function checkIdentity(action: "create" | "update", kind: Kind, metadata: Metadata): void {
  const { name, generateName, resourceVersion, uid, creationTimestamp } = metadata;
  const refuse = (field: string, reason: string, value?: unknown) => {
    throw invalid([{ field: `Metadata.${field}`, reason, value }]);
  };
  const mustBe = `field must be set for ${action === "create" ? "a Create" : "an Update"} request`;
  if (action === "create") {
    if (name === "") refuse("Name", mustBe + (generateName ? " (GenerateName is not supported)" : ""), name);
    if (resourceVersion) refuse("ResourceVersion", "field must not be set for a Create request", resourceVersion);
  } else {
    if (!resourceVersion) refuse("ResourceVersion", mustBe, "");
    if (!creationTimestamp) refuse("CreationTimestamp", mustBe, "");
    if (!uid) refuse("UID", mustBe, "");
  }
  checkNamespace(kind, metadata.namespace);
}

/** A namespaced kind needs a namespace. */
function checkNamespace(kind: Kind, namespace: string | undefined): void {
  if (!kind.namespaced || namespace) return;
  throw invalid([{
    field: "Metadata.Namespace",
    value: "",
    reason: "namespace is not specified on namespaced resource",
  }]);
}

/** The stored object with another's content: all but the metadata, of which labels and annotations are replaced. */
function replaceContent<R extends Resource>(stored: R, by: R): R {
  const { labels, annotations } = by.metadata;
  return { ...by, metadata: { ...stored.metadata, labels, annotations } };
}

/** Everything stored about resources, at one revision. */
export async function storedResources(store: Store): Promise<KeyValue[]> {
  const stored: KeyValue[] = [];
  await store.list(prefixRange(resourcePrefix), (kvs) => void stored.push(...kvs));
  return stored;
}
