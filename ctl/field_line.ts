/**
 * The line of a document that a field of its object stands on, from 1: `Spec.Ingress[0].Protocol`, `spec.order`. Of a path
 * that leads nowhere it is the line of the last part that is there. Names are compared without regard to case: Calico's
 * checks tell Go's names. Undefined for a text that is no YAML.
 */
export async function lineOfField(text: string, path: string): Promise<number | undefined> {
  const { parseDocument } = await import("../lib/yaml.ts");
  const document = parseDocument(text, { logLevel: "error" });
  let node: Node | undefined = document.contents as Node | null ?? undefined;
  if (!node) return undefined;
  let at = node.range?.[0];
  for (const part of partsOf(path)) {
    const next: Found | undefined = childOf(node, part) ?? childOf(childOf(node, "spec")?.node, part);
    if (!next) continue;
    at = next.at ?? at;
    node = next.node;
  }
  return at === undefined ? undefined : text.slice(0, at).split("\n").length;
}

/** What is used of a node of the parser's tree. A pair's key has a place of its own. */
interface Node {
  range?: [number, ...number[]] | null;
  items?: (Node | { key: Node & { value?: unknown }; value: Node | null })[];
}

interface Found {
  node: Node | undefined;
  at: number | undefined;
}

const partsOf = (path: string): string[] => path.split(/[.[\]]+/).filter((part) => part !== "");

function childOf(node: Node | undefined, part: string): Found | undefined {
  for (const [i, item] of (node?.items ?? []).entries()) {
    if (!("key" in item)) {
      if (String(i) === part) return { node: item, at: item.range?.[0] };
    } else if (String(item.key.value).toLowerCase() === part.toLowerCase()) {
      return { node: item.value ?? undefined, at: item.key.range?.[0] };
    }
  }
  return undefined;
}
