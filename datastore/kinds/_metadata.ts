import type { Refuse } from "../fields.ts";
import { qualifiedNameErrors } from "../names.ts";

const maxAnnotationBytes = 262144;

/** Names of annotations are qualified names when lower-cased; all of them together have a limit. */
export function checkAnnotations(annotations: Record<string, string>, refuse: Refuse): void {
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  let total = 0;
  for (const [key, value] of Object.entries(annotations)) {
    for (const reason of qualifiedNameErrors(key.toLowerCase())) refuse("Metadata.Annotations (key)", reason, key);
    total += bytes(key) + bytes(value);
  }
  if (total > maxAnnotationBytes) {
    const reason = `total size of annotations is too large by ${total - maxAnnotationBytes} bytes`;
    refuse("Metadata.Annotations (key)", reason, annotations);
  }
}
