import { writeJson } from "../lib/json64.ts";
import { messageOf } from "../lib/problem.ts";
import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { kindPrefix } from "../datastore/keys.ts";
import type { Kind, Resource } from "../datastore/kind.ts";
import { takeEvent } from "../datastore/object_changes.ts";
import { Compacted, prefixRange, Restored } from "../datastore/store.ts";
import { shown } from "./objects.ts";
import type { ApiParts } from "./parts.ts";
import { statusOf, statusOfError } from "./problems.ts";

/** What is watched. */
export interface Watched {
  kind: Kind;
  namespace?: string;
  chosen(resource: Resource): boolean;
  /** Changes after this revision; undefined = what is there comes first, as added. */
  from: bigint | undefined;
  signal: AbortSignal;
}

/**
 * Changes as server-sent events: `event` is ADDED, MODIFIED, DELETED or ERROR, `id` the revision after which an EventSource
 * goes on by itself, `data` Kubernetes' watch event `{type, object}`. An ERROR of code 410 means: list again.
 * Source: WHATWG HTML, "Server-sent events"; Kubernetes' API concepts, "Efficient detection of changes".
 */
export async function eventsOf(parts: ApiParts, watched: Watched): Promise<Response> {
  const objects = new Map<string, Resource>();
  const range = prefixRange(kindPrefix(watched.kind.kind, watched.namespace));
  const stop = new AbortController();
  const signal = AbortSignal.any([parts.signal, watched.signal, stop.signal]);
  const revision = await parts.store.list(range, (kvs) => {
    for (const kv of kvs) {
      const resource = decodeResource(kv);
      if (!resource || isUndecodable(resource)) continue;
      watched.kind.onRead(resource, "list");
      if (watched.chosen(resource)) objects.set(kv.key, resource);
    }
  }, { at: watched.from }).catch((error) => {
    if (error instanceof Compacted || error instanceof Restored) return undefined;
    throw error;
  });
  async function* texts(): AsyncGenerator<string> {
    if (revision === undefined) return yield expired();
    if (watched.from === undefined) {
      for (const resource of objects.values()) {
        yield text("ADDED", resource, revision);
      }
    }
    yield `id: ${revision}\n\n`;
    try {
      for await (const batch of parts.store.watch(range, revision + 1n, { signal })) {
        for (const event of batch.events) {
          const change = takeEvent(objects, event, watched.chosen);
          if (change?.is === "unreadable") yield unreadable(change.key, change.why);
          else if (change) yield text(change.is.toUpperCase(), change.resource, event.revision);
        }
        // An id alone moves the client on, and says that the connection lives.
        yield `id: ${batch.revision}\n\n`;
      }
    } catch (error) {
      if (error instanceof Compacted || error instanceof Restored) return yield expired();
      if (signal.aborted) return;
      parts.log.warn("watch ended", { kind: watched.kind.kind, why: messageOf(error) });
      yield failure(statusOfError(error));
    }
  }
  return streamed(texts(), stop);
}

/** A response that goes on until the client leaves. */
export function streamed(texts: AsyncGenerator<string>, stop: AbortController): Response {
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await texts.next();
      if (next.done) controller.close();
      else controller.enqueue(new TextEncoder().encode(next.value));
    },
    async cancel() {
      stop.abort(new Error("the client has left"));
      await texts.return(undefined);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
}

function text(type: string, resource: Resource, revision: bigint): string {
  const data = writeJson({ type, object: shown(resource) });
  return `event: ${type}\nid: ${revision}\ndata: ${data}\n\n`;
}

const failure = (status: unknown): string => `event: ERROR\ndata: ${writeJson({ type: "ERROR", object: status })}\n\n`;
const expired = (): string => failure(statusOf(410, "Expired", "the datastore's history was cut off: list again"));
const unreadable = (key: string, why: string): string =>
  failure(statusOf(500, "InternalError", `${key} cannot be read: ${why}`));
