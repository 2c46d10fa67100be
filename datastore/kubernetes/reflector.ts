import { Backoff } from "../../lib/backoff.ts";
import { type Clock, withDeadline } from "../../lib/clock.ts";
import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf, Problem } from "../../lib/problem.ts";
import type { Send } from "./client.ts";
import type { PodMetadata } from "./pod.ts";
import { linesOf } from "./_lines.ts";

/** What every object of Kubernetes has. */
export interface KubernetesObject {
  metadata: PodMetadata & { resourceVersion?: string };
}

/** What a reflector tells: all there is, or what changed since. */
export type Batch<T> = { all: T[] } | { changes: { object: T; gone: boolean }[] };

/** What a reflector asks; KubernetesClient is one. */
export interface Api {
  /** A GET, or a write of what is sent, answered when its head is there. @throws Problem "unavailable". */
  open(path: string, signal: AbortSignal, send?: Send): Promise<Response>;
  /** The next open() makes a new connection. */
  reconnect(): void;
}

/** What is reflected, and what it takes. */
export interface ReflectorOptions<T> {
  api: Api;
  /** Of the collection: "/api/v1/pods". */
  path: string;
  /** Which objects of it: "fieldSelector=spec.nodeName%3Dalder". Default: all. */
  where?: string;
  /** What of each object is kept. */
  keep(object: KubernetesObject): T;
  /** A server need not have it (a CRD stands behind it): then there is nothing of it, and it is looked for again. */
  isOptional?: boolean;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/** How a reflector stands. */
export interface ReflectorState {
  /** It listed everything at least once. */
  listed: boolean;
  /** The last thing it tried went well. */
  connected: boolean;
  /** Why it is not connected. */
  why?: string;
  /** The server does not have this collection. */
  absent: boolean;
  lists: number;
  watches: number;
  /** Events since the start, bookmarks too. */
  events: number;
  /** Monotonic milliseconds of the last answer or event. */
  heardMs: number;
}

/** Objects a page of a list. */
const pageSize = 500;
/** Of one page. */
const listDeadlineMs = 30_000;
/** Bookmarks come every minute, so a watch that says nothing for longer is dead. */
const silenceMs = 90_000;
/** A watch that stood so long is none that fails. */
const steadyMs = 10_000;
/** Refusals of a version in a row after which all is listed: a restored server does not know ours, and does not say 410. */
const refusalsBeforeList = 3;
/** Times in a row that a server must say that it has no such collection: one that starts says so, too, for a moment. */
const absencesBeforeEmpty = 3;
/** Between two looks for a collection that a server does not have. */
const absentMs = 30_000;

/** The version that we have is too old, or a page's token: list again. */
class Expired extends Error {}

/** A collection of Kubernetes, followed: a list in pages, then watches, over every failure, without loss. */
export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #state: ReflectorState;
  /** All up to here was told; undefined = list. */
  #version: string | undefined;
  #refusals = 0;
  #absences = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    const counts = { lists: 0, watches: 0, events: 0, heardMs: options.clock.monotonicMs() };
    this.#state = { listed: false, connected: false, why: "starting", absent: false, ...counts };
  }

  /** How it stands now. */
  state(): ReflectorState {
    return { ...this.#state };
  }

  /** Everything, then each change; everything again when the server forgot what came after our version. Until the signal. */
  async *batches(signal: AbortSignal): AsyncGenerator<Batch<T>, void> {
    const { clock, random } = this.#options;
    const backoff = new Backoff({ firstMs: 500, maxMs: 30_000, clock, random });
    while (!signal.aborted) {
      const began = clock.monotonicMs();
      let askedMs = 0;
      try {
        if (this.#version === undefined) yield { all: await this.#list(signal) };
        for await (const changes of this.#watch(signal)) {
          backoff.reset();
          if (changes.length > 0) yield { changes };
        }
      } catch (error) {
        if (signal.aborted) return;
        askedMs = this.#failed(error);
        if (this.#isAbsent(error)) {
          const isNews = !this.#state.absent;
          this.#nothingThere();
          if (isNews) yield { all: [] };
          askedMs = absentMs;
        }
      }
      if (clock.monotonicMs() - began > steadyMs) backoff.reset();
      await clock.sleep(Math.max(askedMs, backoff.next()), signal).catch(() => {}); // aborted: the loop looks for that
    }
  }

  /**
   * All objects. Without a resourceVersion, because servers that are asked for "any" ignore the page size and send
   * everything in one answer.
   */
  async #list(signal: AbortSignal): Promise<T[]> {
    const { path, where, keep, log, clock } = this.#options;
    const began = clock.monotonicMs(), all: T[] = [];
    for (let next = "";;) {
      const page = await this.#page(
        `${path}?limit=${pageSize}${where ? `&${where}` : ""}${next && `&continue=${encodeURIComponent(next)}`}`,
        signal,
      );
      const { items, metadata } = page;
      if (!Array.isArray(items) || !isObject(metadata)) throw this.#strange("a list without items");
      for (const item of items) all.push(keep(objectOf(item) ?? this.#throwStrange("an item without metadata")));
      next = typeof metadata.continue === "string" ? metadata.continue : "";
      if (next) continue;
      if (typeof metadata.resourceVersion !== "string") throw this.#strange("a list without version");
      this.#version = metadata.resourceVersion;
      break;
    }
    this.#state.lists++;
    this.#state.listed = true;
    this.#answered();
    this.#refusals = 0;
    log.info("listed", { path, objects: all.length, ms: Math.round(clock.monotonicMs() - began) });
    return all;
  }

  async #page(query: string, signal: AbortSignal): Promise<Record<string, Json>> {
    const { api, clock } = this.#options;
    const late = () => this.#unavailable(`no list within ${listDeadlineMs} ms`);
    const read = async (over: AbortSignal) => {
      const answer = await api.open(query, AbortSignal.any([over, signal]));
      if (!answer.ok) throw await this.#refusal(answer);
      return await answer.text();
    };
    const text = await withDeadline(listDeadlineMs, read, late, clock).catch((error) => {
      // What breaks off in the middle of a body is no Problem yet.
      throw error instanceof TypeError ? this.#unavailable(error.message) : error;
    });
    return this.#parse(text);
  }

  /** One watch: the changes of each piece that arrives; none for bookmarks. */
  async *#watch(signal: AbortSignal): AsyncGenerator<{ object: T; gone: boolean }[], void> {
    const { api, path, where, clock, random } = this.#options;
    const seconds = Math.round(240 + 240 * random());
    const from = `timeoutSeconds=${seconds}&resourceVersion=${this.#version}${where ? `&${where}` : ""}`;
    const query = `watch=true&allowWatchBookmarks=true&${from}`;
    const stop = new AbortController();
    const both = AbortSignal.any([stop.signal, signal]);
    this.#state.watches++;
    try {
      const late = () => this.#unavailable(`no watch within ${listDeadlineMs} ms`);
      const answer = await withDeadline(listDeadlineMs, () => api.open(`${path}?${query}`, both), late, clock);
      if (!answer.ok) throw await withDeadline(listDeadlineMs, () => this.#refusal(answer), late, clock);
      this.#answered();
      const silent = () => new Silent(`the watch said nothing for ${silenceMs / 1000} s`, path);
      for await (const lines of linesOf(answer, { silenceMs, silent, clock, signal: both })) {
        const changes: { object: T; gone: boolean }[] = [];
        let failure: unknown;
        try {
          for (const line of lines) changes.push(...this.#event(line));
        } catch (error) {
          failure = error;
        }
        yield changes; // what came before a failure in the same piece is as good as any
        if (failure !== undefined) throw failure;
      }
    } catch (error) {
      throw error instanceof TypeError ? this.#unavailable(error.message) : error;
    } finally {
      stop.abort(new Error("the watch is over"));
    }
  }

  /** A line of a watch. @throws Expired, or a Problem, for an ERROR. */
  #event(line: string): { object: T; gone: boolean }[] {
    const { type, object: raw } = this.#parse(line);
    this.#state.events++;
    this.#state.heardMs = this.#now();
    if (type === "ERROR") throw this.#said(isObject(raw) ? raw : {}, 500);
    const object = objectOf(raw);
    if (!object) throw this.#strange("an event without metadata");
    this.#refusals = 0;
    this.#version = object.metadata.resourceVersion ?? this.#version;
    if (type === "BOOKMARK") return [];
    return [{ object: this.#options.keep(object), gone: type === "DELETED" }];
  }

  #answered(): void {
    Object.assign(this.#state, { connected: true, why: undefined, absent: false, heardMs: this.#now() });
    this.#absences = 0;
  }

  /** True when the server said often enough that it has no such collection. */
  #isAbsent(error: unknown): boolean {
    if (!this.#options.isOptional) return false;
    this.#absences = error instanceof Refused && error.status === 404 ? this.#absences + 1 : 0;
    return this.#absences >= absencesBeforeEmpty;
  }

  #nothingThere(): void {
    this.#version = undefined;
    if (!this.#state.absent) this.#options.log.info("Kubernetes has no such objects", { path: this.#options.path });
    Object.assign(this.#state, { listed: true, connected: true, why: undefined, absent: true, heardMs: this.#now() });
  }

  #now(): number {
    return this.#options.clock.monotonicMs();
  }

  /** Takes notes of a failure; answers how many milliseconds the server asked us to wait. @throws what is a bug. */
  #failed(error: unknown): number {
    const { log, path, api } = this.#options;
    if (!(error instanceof Expired) && !isProblem(error)) throw error;
    if (error instanceof Silent) {
      // Servers before 1.21 send no bookmark of what never changed: only the next connection tells whether one is dead.
      log.debug("watch is made anew", { path, why: error.what });
      api.reconnect();
      return 0;
    }
    this.#state.connected = false;
    this.#state.why = messageOf(error);
    const isQuiet = this.#options.isOptional && error instanceof Refused && error.status === 404;
    if (!isQuiet) log.warn("Kubernetes cannot be followed now, what is known stays", { path, why: messageOf(error) });
    if (error instanceof Expired) {
      this.#version = undefined;
      return 0;
    }
    if (error instanceof Refused) {
      if (error.doubtsVersion && ++this.#refusals >= refusalsBeforeList) this.#version = undefined;
      // Behind one address there may be several servers: another connection may lead to a better one.
      if (error.status >= 500) api.reconnect();
      return error.retryAfterMs;
    }
    if (isProblem(error, "unavailable")) api.reconnect();
    return 0;
  }

  async #refusal(answer: Response): Promise<Error> {
    const text = await answer.text();
    let status: Json = {};
    try {
      status = parseJson(text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    const after = Number(answer.headers.get("retry-after") ?? 0) * 1000;
    return this.#said(
      isObject(status) ? status : {},
      answer.status,
      Number.isFinite(after) ? Math.min(after, 60_000) : 0,
    );
  }

  /** The error that a Status object stands for. */
  #said(status: Record<string, Json>, otherwise: number, retryAfterMs = 0): Error {
    const code = typeof status.code === "number" ? status.code : otherwise;
    const why = typeof status.message === "string" ? status.message : `HTTP ${code}`;
    return code === 410 ? new Expired(why) : new Refused(code, why, this.#options.path, retryAfterMs);
  }

  #parse(text: string): Record<string, Json> {
    try {
      const value = parseJson(text);
      if (isObject(value)) return value;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    throw this.#strange("something that is not a JSON object");
  }

  #strange(what: string): Problem {
    return this.#unavailable(`the server sent ${what}`);
  }

  #throwStrange(what: string): never {
    throw this.#strange(what);
  }

  #unavailable(why: string): Problem {
    return new Problem({ code: "unavailable", what: `Kubernetes cannot be read: ${why}`, where: this.#options.path });
  }
}

/** A watch told nothing for too long. */
class Silent extends Problem {
  constructor(what: string, where: string) {
    super({ code: "unavailable", what, where });
  }
}

/** The server answered, and not with what we asked for. */
class Refused extends Problem {
  constructor(readonly status: number, why: string, path: string, readonly retryAfterMs: number) {
    const code = status === 401 || status === 403 ? "unauthorized" : "unavailable";
    const todo = code === "unauthorized" ? "Look at the token and at the role of its account" : undefined;
    super({ code, what: `Kubernetes refuses: ${why}`, where: path, todo });
  }

  /** It may be our version that it does not like. */
  get doubtsVersion(): boolean {
    return ![401, 403, 429].includes(this.status);
  }
}

/** An object as the API sends it; a bookmark has no name, everything else has. */
const objectOf = (value: Json | undefined): KubernetesObject | undefined =>
  isObject(value) && isObject(value.metadata) ? value as unknown as KubernetesObject : undefined;
