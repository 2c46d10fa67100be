/** What changed. "everything": notifications were lost, or it is the first answer: look at all of it. */
export interface Change {
  what: "link" | "address" | "route" | "neighbour" | "everything";
}

/**
 * Notifications of the namespace of the calling thread as one iterator, each value what came in one go. Ends when
 * `signal` is aborted. The first value is always `everything`: subscribed, now list.
 */
export function changes(_signal: AbortSignal): AsyncGenerator<Change[]> {
  throw new Error("not built yet");
}
