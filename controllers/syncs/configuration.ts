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

/** Tries to say the same status. */
const maxTimes = 3;

/** The settings that a stored value asks for; the default ones for no value, and for one that cannot be read. */
export function specIn(
  kv: Pick<KeyValue, "key" | "value" | "revision"> | undefined,
): KubeControllersConfiguration["spec"] {
  const read = kv && decodeResource(kv);
  return !read || isUndecodable(read) ? defaultSpec : (read as KubeControllersConfiguration).spec;
}

/**
 * Keeps the resource with the settings: made when it is not there, and its status says what is in force. What we say is said
 * a few times: other controllers, such as Calico's own, may say theirs after it, and two who insist would write for ever.
 * Source: Calico kube-controllers/pkg/config/runconfig.go.
 */
class Configuration implements Sync {
  readonly name = "configuration";
  readonly sources = [];
  /** What we have tried to say, and how often: a write may fail, and somebody may write at once on top of it. */
  #said: { status: unknown; times: number } = { status: undefined, times: 0 };

  constructor(private readonly env: (name: string) => string | undefined) {}

  kubernetes(): string[] {
    return [];
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    const isThere = set.some(({ key }) => key === configurationKey) || deleted.includes(configurationKey);
    return isThere ? [configurationKey] : [];
  }

  configure(): string[] {
    return [configurationKey];
  }

  step(_key: string, have: Have): Step {
    if (have && "undecodable" in have) return { do: "nothing" };
    const stored = have as KubeControllersConfiguration | undefined;
    const spec = stored?.spec ?? structuredClone(defaultSpec);
    const { status } = settingsOf(spec, this.env);
    if (!stored) {
      const metadata = { name: "default" };
      const made = { kind: "KubeControllersConfiguration", apiVersion, metadata, spec, status } as unknown as Resource;
      return { do: "create", resource: made };
    }
    if (!sameJson(this.#said.status, status)) this.#said = { status, times: 0 };
    if (sameJson(stored.status ?? {}, status) || this.#said.times >= maxTimes) return { do: "nothing" };
    this.#said.times++;
    return { do: "update", resource: { ...stored, status } as unknown as Resource };
  }
}

/** The controller of the settings' resource. */
export const configurationSync = (env: (name: string) => string | undefined): Sync => new Configuration(env);
