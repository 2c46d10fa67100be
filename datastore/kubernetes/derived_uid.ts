import { Problem } from "../../lib/problem.ts";

/**
 * The UID of an object that is derived from one of Kubernetes: the bits of each byte in reverse, but for those that hold
 * version and variant (RFC 9562 section 4). Both ways the same; the same object always gets the same one.
 * @throws Problem "bad-input" for what is no UUID. Source: Calico …/k8s/conversion/conversion.go ConvertUID.
 */
export function derivedUid(uid: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uid)) {
    throw new Problem({ code: "bad-input", what: `"${uid}" is not a UUID`, where: "metadata.uid" });
  }
  let position = 0;
  return uid.toLowerCase().replace(/[0-9a-f]{2}/g, (byte) => {
    const at = position++;
    return at === 6 || at === 8 ? byte : reversed(parseInt(byte, 16)).toString(16).padStart(2, "0");
  });
}

function reversed(byte: number): number {
  let bits = 0;
  for (let i = 0; i < 8; i++) bits |= (byte >> i & 1) << (7 - i);
  return bits;
}
