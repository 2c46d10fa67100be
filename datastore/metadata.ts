import type { Refuse } from "./schema/fields.ts";
import type { Metadata } from "./kind.ts";
import { isResourceName, labelValueErrors, maxNameLength, qualifiedNameErrors, subdomainText } from "./names.ts";

/** Rules that hold for every kind's metadata. */
export function checkMetadata({ name, annotations = {}, labels = {} }: Metadata, refuse: Refuse): void {
  const over = new TextEncoder().encode(name).length - maxNameLength;
  if (over > 0) refuse("Metadata.Name", `name is too long by ${over} bytes`, name);
  if (!isResourceName(name)) {
    const rule = "name must consist of lower case alphanumeric characters, '-' or '.'";
    refuse("Metadata.Name", `${rule} (regex: ${subdomainText})`, name);
  }
  checkAnnotations(annotations, refuse);
  for (const [key, value] of Object.entries(labels)) {
    for (const reason of qualifiedNameErrors(key)) refuse("Metadata.Labels (label)", reason, key);
    for (const reason of labelValueErrors(value)) refuse("Metadata.Labels (value)", reason, value);
  }
}

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
