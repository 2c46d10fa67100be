import { sameJson } from "../../lib/json64.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import type { KubeControllersConfiguration } from "../../datastore/kinds/kube_controllers_configuration.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import type { Changes } from "../../datastore/mirror.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { defaultSpec, settingsOf } from "../settings.ts";
import type { Have, Step } from "./step.ts";
import type { Sync } from "./sync.ts";

/** Where the settings stand. */
export const configurationKey = resourceKey("KubeControllersConfiguration", "default");

/** The settings that a stored value asks for; the default ones for no value, and for one that cannot be read. */
export function specIn(
  kv: Pick<KeyValue, "key" | "value" | "revision"> | undefined,
): KubeControllersConfiguration["spec"] {
  const read = kv && decodeResource(kv);
  return !read || isUndecodable(read) ? defaultSpec : (read as KubeControllersConfiguration).spec;
}

/**
 * Keeps the resource with the settings: made when it is not there, and its status says what is in force.
 * Source: Calico kube-controllers/pkg/config/runconfig.go.
 */
export const configurationSync = (env: (name: string) => string | undefined): Sync => ({
  name: "configuration",
  sources: [],
  kubernetes: () => [],
  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    const isThere = set.some(({ key }) => key === configurationKey) || deleted.includes(configurationKey);
    return isThere ? [configurationKey] : [];
  },
  configure: () => [configurationKey],
  step(_key: string, have: Have): Step {
    if (have && "undecodable" in have) return { do: "nothing" };
    const stored = have as KubeControllersConfiguration | undefined;
    const spec = stored?.spec ?? structuredClone(defaultSpec);
    const { status } = settingsOf(spec, env);
    if (!stored) {
      const metadata = { name: "default" };
      const made = { kind: "KubeControllersConfiguration", apiVersion, metadata, spec, status } as unknown as Resource;
      return { do: "create", resource: made };
    }
    if (sameJson(stored.status ?? {}, status)) return { do: "nothing" };
    return { do: "update", resource: { ...stored, status } as unknown as Resource };
  },
});
