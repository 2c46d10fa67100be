import { kindPrefix, resourceKey } from "../datastore/keys.ts";
import type { Resource } from "../datastore/kind.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import { type ObjectChange, takeEvent } from "../datastore/object_changes.ts";
import { Compacted, prefixRange, type Range, Restored, type Store } from "../datastore/store.ts";
import { type Choice, chosen } from "./choice.ts";
import { badInput } from "./command.ts";
import type { Found } from "./found.ts";
import { type Format, render, type TableContext } from "./output.ts";
import type { Surroundings } from "./surroundings.ts";

/** What showing changes needs. */
export interface Watching {
  surroundings: Surroundings;
  store: Store;
  format: Format;
  context: TableContext;
  choice: Choice;
}

/**
 * `get --watch`: shows what was found, then every change until the user stops. On a terminal a table is drawn anew in its
 * place; in a pipe each changed object comes as one more row, or as one more YAML or JSON document.
 * @param found as it was read. @param asked the object or kind that was asked for. @returns the exit code.
 * @throws Problem "bad-input" when more than one kind or name was asked for; what the store throws.
 */
export async function watchFound(w: Watching, found: Found[], asked: Resource[]): Promise<number> {
  const [only] = found, [wanted] = asked;
  if (!only || !wanted || found.length > 1) throw badInput("--watch follows one kind or one object");
  const { name, namespace } = wanted.metadata;
  const range: Range = name
    ? single(resourceKey(wanted.kind, name, namespace))
    : prefixRange(kindPrefix(wanted.kind, namespace));
  const live = w.surroundings.screen && ["ps", "wide", "columns"].includes(w.format.is);
  const objects = new Map(
    only.items.map((item) => [resourceKey(item.kind, item.metadata.name, item.metadata.namespace), item]),
  );
  const from = only.revision ?? BigInt(only.items[0]!.metadata.resourceVersion!);
  const show = () => {
    const items = [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item);
    if (only.revision === undefined && items.length === 0) return;
    const text = render([chosen({ ...only, items }, w.choice)], w.format, false, w.context);
    w.surroundings.out(live ? `\x1b[H\x1b[2J${text}` : text);
  };
  show();
  const signal = (await w.surroundings.host()).interruption();
  try {
    for await (const batch of w.store.watch(range, from + 1n, { signal })) {
      const changed = batch.events.map((event) => takeEvent(objects, event, w.choice.matches));
      if (live && changed.length > 0) show();
      if (!live) { for (const change of changed) showChange(w, [...objects.values()], change); }
    }
  } catch (error) {
    if (!(error instanceof Compacted || error instanceof Restored)) throw error;
    w.surroundings.err("The datastore's history was cut off or replaced; start again to see its present state.\n");
    return 1;
  }
  return 0;
}

const single = (key: string): Range => ({ start: key, end: `${key}\0` });

/** One change as text for a pipe. A deleted object stands behind its row, or as an object with `deleted: true`. */
function showChange(
  { surroundings, format, context }: Watching,
  all: Resource[],
  change: ObjectChange | undefined,
): void {
  if (!change) return;
  if (change.is === "unreadable") return surroundings.err(`warning: ${change.key} cannot be read: ${change.why}\n`);
  const { resource } = change, deleted = change.is === "deleted";
  const kind = kindByName(resource.kind);
  const shown = deleted && (format.is === "yaml" || format.is === "json") ? { ...resource, deleted: true } : resource;
  // Rows are as wide as those of the whole table.
  const isTable = ["ps", "wide", "columns"].includes(format.is);
  const items = [...(isTable ? all : []), shown as Resource];
  const text = render([{ kind, items }], format, false, context);
  if (format.is === "yaml") surroundings.out(`---\n${text}`);
  else if (format.is === "json") surroundings.out(`\n${text}`);
  else if (format.is === "name" || format.is === "template") surroundings.out(text);
  else surroundings.out(`${text.trimEnd().split("\n").at(-1)!.trimEnd()}${deleted ? "   (deleted)" : ""}\n`);
}
