import { writeJson } from "../lib/json64.ts";
import { shapeResource } from "../datastore/codec.ts";
import { apiVersion, type CellContext, type Column, type Kind } from "../datastore/kind.ts";
import { nameColumn } from "../datastore/columns.ts";
import { badInput } from "./command.ts";
import type { Found } from "./found.ts";
import { runTemplate } from "./go_template.ts";
import { resultsOf } from "./go_values.ts";
import type { Paint } from "./paint.ts";
import { plainTable } from "./table.ts";
import { yamlText } from "./yaml_text.ts";

/** How `get` prints. */
export type Format =
  | { is: "ps" | "wide" | "yaml" | "json" | "name" }
  | { is: "columns"; heads: string[] }
  | { is: "template"; text: string };

/**
 * Reads the value of `-o`. @param readFile gives a template file's text.
 * @throws Problem "bad-input" in calicoctl's words.
 */
export async function parseFormat(
  text: string,
  readFile: (path: string) => Promise<string | undefined>,
): Promise<Format> {
  const [word, rest] = text.split(/=(.*)/s) as [string, string | undefined];
  switch (word) {
    case "":
    case "ps":
      return { is: "ps" };
    case "wide":
    case "yaml":
    case "json":
    case "name":
      return { is: word };
    case "custom-columns":
      if (!rest) throw badInput("need to specify at least one column");
      return { is: "columns", heads: rest.split(",") };
    case "go-template":
      if (!rest) throw badInput("need to specify a template");
      return { is: "template", text: rest };
    case "go-template-file": {
      if (!rest) throw badInput("need to specify a template file");
      const template = await readFile(rest);
      if (template === undefined) throw badInput(`open ${rest}: no such file or directory`);
      return { is: "template", text: template };
    }
  }
  throw badInput(`unrecognized output format '${text}'`);
}

/** What shapes a table beside the objects. */
export interface TableContext extends CellContext {
  /** A column NAMESPACE comes first, unless the user named the columns. */
  namespaces: boolean;
  /** Colours of the screen; absent = none. */
  colours?: Paint;
}

/**
 * The whole output of `get`. @param several more than one name was asked for, so YAML and JSON print a sequence.
 * @throws Problem for an unknown column, or a template that is not understood.
 */
export function render(found: Found[], format: Format, several: boolean, context: TableContext): string {
  switch (format.is) {
    case "yaml":
    case "json": {
      const shown = found.map(shape);
      const value = several && shown.length > 0 ? shown : shown[0] ?? null;
      return format.is === "yaml" ? yamlText(value) : goJson(value);
    }
    case "name":
      return found.flatMap((f) => f.items.map((r) => `${f.kind.kind.toLowerCase()}/${r.metadata.name}\n`)).join("");
    case "template":
      return runTemplate(format.text, resultsOf(found), context);
    default:
      return found.map((f) => tableOf(f, columnsOf(f.kind, format, context), context)).join("");
  }
}

function columnsOf(kind: Kind, format: Format, { namespaces }: TableContext): readonly Column[] {
  if (format.is !== "columns") {
    const own = kind.columns.filter((c) => c.only === undefined || c.only === format.is);
    return namespaces && kind.namespaced ? [namespaceColumn, ...own] : own;
  }
  const named = kind.columns.some((c) => c.head === "NAME") ? kind.columns : [nameColumn, ...kind.columns];
  const all = kind.namespaced ? [...named, namespaceColumn] : named;
  return format.heads.map((head) => {
    const column = all.find((c) => c.head === head.toUpperCase());
    if (column) return column;
    throw badInput(`unknown heading ${head}, valid values are: ${all.map((c) => c.head).join(", ")}`);
  });
}

const namespaceColumn: Column = { head: "NAMESPACE", value: (resource) => resource.metadata.namespace ?? "" };

function tableOf({ items }: Found, columns: readonly Column[], context: TableContext): string {
  return plainTable(
    columns.map((c) => c.head),
    items.map((r) => columns.map((c) => c.value(r, context))),
    context.colours,
  );
}

/** The object, or the list object, as users see it. */
function shape({ kind, items, revision }: Found): Record<string, unknown> {
  const shown = items.map((r) => shapeResource(r, true));
  if (revision === undefined) return shown[0]!;
  return { kind: `${kind.kind}List`, apiVersion, metadata: { resourceVersion: String(revision) }, items: shown };
}

/** JSON as Go writes it: two blanks a level, `<`, `>` and `&` as escapes. */
export const goJson = (value: unknown): string =>
  writeJson(value, 2).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
