import { createHash } from "node:crypto";
import { maxNameLength } from "../names.ts";

/**
 * The name under which something of Kubernetes is stored: `prefix` and its own name, or, when that would be too long or
 * not fit `isAllowed`, its beginning and a part of its SHA-256. The same name always gives the same.
 */
export function storedName(prefix: string, name: string, isAllowed: (text: string) => boolean = () => true): string {
  const whole = prefix + name;
  if (whole.length <= maxNameLength && isAllowed(whole)) return whole;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 20);
  const start = name.toLowerCase().replace(/[^a-z0-9-]/g, "-").slice(0, maxNameLength - prefix.length - 21);
  return `${prefix}${start}-${hash}`;
}
