import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import { type Needs, resourcePrefix } from "../kind.ts";
import { doesNotExist, identify, invalid, notSupported } from "../problems.ts";
import { prefixRange } from "../store.ts";

/** `spec` of a stored value; undefined when it cannot be read. */
export function storedSpec(value: string): Record<string, Json> | undefined {
  try {
    const object = parseJson(value);
    return isObject(object) && isObject(object.spec) ? object.spec : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Cluster-scoped objects that must exist, by name; the missing ones are told as `field`. */
export function missingNames(plural: string, names: string[], field: string, reason: string): Needs | undefined {
  if (names.length === 0) return undefined;
  const keyOf = (name: string) => `${resourcePrefix}${plural}/${name}`;
  return {
    read: [...new Set(names.map(keyOf))],
    verdict(values) {
      const missing = names.filter((name) => !values.has(keyOf(name)));
      return missing.length > 0 ? invalid([{ field, value: missing, reason }]) : undefined;
    },
  };
}

/** The tier of a policy must exist. DIFFERS: Calico lets an update name one that does not. */
export function tierExists(tier = "default", before?: string): Needs | undefined {
  if (tier === before) return undefined;
  const key = `${resourcePrefix}tiers/${tier}`;
  return {
    read: [key],
    verdict: (values) => (values.has(key) ? undefined : doesNotExist(identify("Tier", tier))),
  };
}

/** No policy of any kind may be in a tier that is deleted. */
export function tierIsEmpty(tier: string): Needs {
  const plurals = ["networkpolicies", "globalnetworkpolicies", "stagednetworkpolicies", "stagedglobalnetworkpolicies"];
  return {
    read: plurals.map((plural) => prefixRange(`${resourcePrefix}${plural}/`)),
    verdict(values) {
      const used = [...values.values()].some((kv) => storedSpec(kv.value)?.tier === tier);
      return used ? notSupported("delete", tier, "Cannot delete a non-empty tier") : undefined;
    },
  };
}
