/** How events are cut into messages. Pure. */
import { maxRequestBytes } from "./grpc.ts";
import type { Event, KeyValue } from "./messages.ts";

/** A message ends after the revision with which it has so many bytes: over a bad connection a client gets on by whole ones. */
const messageBytes = 1 << 18;

/** Groups events into messages; the events of one revision stay together. */
export function* messagesOf(events: Event[]): Generator<Event[]> {
  let group: Event[] = [], bytes = 0;
  for (const event of events) {
    if (bytes >= messageBytes && event.kv.mod_revision !== group.at(-1)?.kv.mod_revision) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(event);
    bytes += sizeOf(event);
  }
  if (group.length > 0) yield group;
}

/** Cuts a message that is larger than a request may be; every part but the last says that more follows. */
export function fragments(events: Event[]): { events: Event[]; fragment: boolean }[] {
  const parts: Event[][] = [[]];
  let bytes = 0;
  for (const event of events) {
    const size = sizeOf(event);
    if (bytes + size >= maxRequestBytes && bytes > 0) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)!.push(event);
    bytes += size;
  }
  return parts.map((part, i) => ({ events: part, fragment: i < parts.length - 1 }));
}

/** Bytes of an event on the wire, a few too many. */
const sizeOf = ({ kv, prev_kv }: Event) => 16 + kvSize(kv) + (prev_kv ? kvSize(prev_kv) : 0);

const kvSize = (kv: KeyValue) => kv.key.length + kv.value.length + 40;
