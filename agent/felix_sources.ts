import { isObject } from "../lib/json64.ts";
import { messageOf } from "../lib/problem.ts";
import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { kindPrefix, parseKey, resourceKey } from "../datastore/keys.ts";
import { felixFields } from "../datastore/kinds/felix_configuration.ts";
import type { Resource } from "../datastore/kind.ts";
import type { Changes } from "../datastore/mirror.ts";
import { parseSelector, type Selector } from "../datastore/selector/index.ts";
import type { KeyValue } from "../datastore/store.ts";
import { type Configuration, ownParameters, parameterOf, type SettingSources } from "./settings.ts";

/** A FelixConfiguration that holds where its selector matches. */
interface Selecting {
  selector: Selector | undefined;
  created: string;
  spec: Record<string, unknown>;
}

/** Fields by the names of their parameters, in lower case. */
const fieldOf = new Map(
  [...felixFields, ...Object.keys(ownParameters)].map((field) => [parameterOf(field).toLowerCase(), field]),
);
const configurationPrefix = kindPrefix("FelixConfiguration");
const annotationPrefix = "config.projectcalico.org/";

/**
 * Where Felix's parameters are said for this node, followed through the mirror's changes: the environment, the
 * FelixConfigurations `node.<this node>` and `default`, and between the two the oldest one whose nodeSelector matches
 * this node. An annotation `config.projectcalico.org/<Parameter>` stands in the place of the parameter's field.
 * A value that cannot be read leaves its last good version in force.
 * Source: Calico's felix/calc/config_batcher.go and updateprocessors/configurationprocessor.go.
 */
export class FelixSources {
  readonly #node: string;
  readonly #nodeKey: string;
  readonly #env: SettingSources["env"];
  readonly #named = new Map<string, Record<string, unknown>>();
  readonly #selecting = new Map<string, Selecting>();
  #nodeLabels: Record<string, string> | undefined;

  constructor(node: string, env: SettingSources["env"]) {
    this.#node = node;
    this.#nodeKey = resourceKey("Node", node);
    this.#env = env;
  }

  /** Takes a step of the mirror. @returns whether sources() may have changed, and what could not be read. */
  update({ set, deleted }: Pick<Changes, "set" | "deleted">): { changed: boolean; broken: Map<string, string> } {
    const broken = new Map<string, string>();
    let changed = false;
    for (const kv of set) {
      if (!this.#concerns(kv.key)) continue;
      try {
        this.#read(kv);
        changed = true;
      } catch (error) {
        broken.set(kv.key, messageOf(error));
      }
    }
    for (const key of deleted) {
      if (!this.#concerns(key)) continue;
      changed = true;
      if (key === this.#nodeKey) this.#nodeLabels = undefined;
      else this.#drop(key);
    }
    return { changed, broken };
  }

  /** Where a parameter may be said now, strongest first. */
  sources(): SettingSources {
    const configurations = [
      this.#configuration(`node.${this.#node}`),
      this.#selected(),
      this.#configuration("default"),
    ];
    return { env: this.#env, configurations: configurations.filter((c) => c !== undefined) };
  }

  #concerns(key: string): boolean {
    return key.startsWith(configurationPrefix) || key === this.#nodeKey;
  }

  #drop(key: string): void {
    const name = nameOf(key);
    this.#named.delete(name);
    this.#selecting.delete(name);
  }

  #read(kv: KeyValue): void {
    const resource = decodeResource(kv);
    if (!resource || isUndecodable(resource)) throw new Error(resource?.why ?? "no resource has such a key");
    if (kv.key === this.#nodeKey) {
      this.#nodeLabels = resource.metadata.labels ?? {};
      return;
    }
    const name = nameOf(kv.key), spec = specOf(resource);
    if (name === "default" || name.startsWith("node.")) {
      if (name === "default" || name === `node.${this.#node}`) this.#named.set(name, spec);
      return;
    }
    const text = typeof spec.nodeSelector === "string" ? spec.nodeSelector : "";
    const selector = text === "" ? undefined : parseSelector(text);
    this.#selecting.set(name, { selector, created: String(resource.metadata.creationTimestamp ?? ""), spec });
  }

  #configuration(name: string): Configuration | undefined {
    const spec = this.#named.get(name);
    return spec && { name, spec };
  }

  /** The oldest that selects this node; of the same age that with the smaller name. */
  #selected(): Configuration | undefined {
    if (!this.#nodeLabels) return undefined;
    const labels = new Map(Object.entries(this.#nodeLabels));
    const found = [...this.#selecting].filter(([, { selector }]) => selector?.matches(labels))
      .sort(([a, { created: x }], [b, { created: y }]) => (x < y || (x === y && a < b) ? -1 : 1))[0];
    return found && { name: found[0], spec: found[1].spec };
  }
}

function nameOf(key: string): string {
  const parsed = parseKey(key);
  return parsed?.is === "resource" ? parsed.name : "";
}

/** The spec, with what annotations say in the place of fields; an empty annotation takes its field away. */
function specOf(resource: Resource): Record<string, unknown> {
  const spec = { ...(isObject(resource.spec) ? resource.spec as Record<string, unknown> : {}) };
  for (const [name, value] of Object.entries(resource.metadata.annotations ?? {})) {
    if (!name.startsWith(annotationPrefix)) continue;
    const field = fieldOf.get(name.slice(annotationPrefix.length).toLowerCase());
    if (field) spec[field] = value;
  }
  return spec;
}
