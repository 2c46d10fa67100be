import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { nodePrefix } from "../../datastore/keys.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Node } from "../../datastore/kinds/node.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { isObject, type Json, parseJson, sameJson, writeJson } from "../../lib/json64.ts";
import type { Batch } from "../../datastore/kubernetes/reflector.ts";
import type { Running } from "../settings.ts";
import { type KeptNode, nodes } from "../sources.ts";
import type { Have, Step } from "./step.ts";
import type { Sync } from "./sync.ts";

/** Holds the labels of the last sync as JSON, so that a label that went in Kubernetes goes here. */
const lastLabels = "projectcalico.org/kube-labels";

/**
 * A node with the labels of its node in Kubernetes; those that a user gave it stay.
 * Source: Calico kube-controllers/pkg/controllers/node/labels.go.
 */
export function labelledNode<R extends Resource>(node: R, wanted: Record<string, string>): R {
  const { labels = {}, annotations = {} } = node.metadata;
  const gone = Object.keys(mapIn(annotations[lastLabels])).filter((name) => !(name in wanted));
  const kept = Object.fromEntries(Object.entries(labels).filter(([name]) => !gone.includes(name)));
  const next = { ...kept, ...wanted };
  // Only a change of labels is worth a write: the note alone follows with the next one.
  if (sameJson(next, labels)) return node;
  const sorted = Object.fromEntries(Object.entries(wanted).sort(([a], [b]) => (a < b ? -1 : 1)));
  const noted = { ...annotations, [lastLabels]: writeJson(sorted) };
  return { ...node, metadata: { ...node.metadata, labels: next, annotations: noted } };
}

/** The note of the last sync; one that cannot be read is none. */
function mapIn(text: string | undefined): Record<string, Json> {
  try {
    const value = parseJson(text ?? "{}");
    return isObject(value) ? value : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

/**
 * Labels of Kubernetes' nodes → the nodes in etcd that name them in `orchRefs`. Those that a list lacked although they were
 * known, and those that were deleted, are stale; one that joins and that Kubernetes does not have yet is not.
 * Source: Calico kube-controllers/pkg/controllers/node/node_deleter.go.
 */
class Nodes implements Sync {
  readonly name = "node";
  readonly sources = [nodes];
  #nodes = new Map<string, KeptNode>();
  /** Keys by the name in Kubernetes, and the other way around. */
  readonly #keys = new Map<string, string>();
  readonly #names = new Map<string, string>();
  /** Names in Kubernetes of what is stale. */
  readonly #stale = new Set<string>();
  #listed = false;
  #stored = false;
  #syncLabels = true;

  configure({ syncLabels }: Running): string[] {
    this.#syncLabels = syncLabels;
    return [...this.#names.keys()];
  }

  kubernetes(given: Batch<unknown>): string[] {
    const batch = given as Batch<KeptNode>;
    if ("all" in batch) {
      this.#nodes = new Map(batch.all.map((node) => [node.metadata.name, node]));
      this.#listed = true;
      this.#compare();
      return [...this.#names.keys()];
    }
    return batch.changes.flatMap(({ object, gone }) => {
      const { name } = object.metadata;
      if (gone) {
        this.#nodes.delete(name);
        this.#stale.add(name);
      } else {
        this.#nodes.set(name, object);
        this.#stale.delete(name);
      }
      const key = this.#keys.get(name);
      return key === undefined ? [] : [key];
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    for (const key of deleted) {
      this.#stale.delete(this.#names.get(key) ?? "");
      this.#forget(key);
    }
    const found = this.#take(set);
    if (!this.#stored) this.#compare();
    this.#stored = true;
    return found;
  }

  #take(set: Changes["set"]): string[] {
    return set.filter((kv) => kv.key.startsWith(nodePrefix)).flatMap((kv) => {
      this.#forget(kv.key);
      const node = decodeResource(kv);
      if (!node || isUndecodable(node)) return [];
      const name = (node as Node).spec.orchRefs?.find((ref) => ref.orchestrator === "k8s")?.nodeName;
      if (!name) return [];
      this.#names.set(kv.key, name);
      this.#keys.set(name, kv.key);
      return [kv.key];
    });
  }

  step(key: string, have: Have): Step {
    const nameThere = this.#names.get(key);
    if (nameThere === undefined || !have || "undecodable" in have) return { do: "nothing" };
    const node = have as Resource, origin = this.#nodes.get(nameThere);
    if (this.#stale.has(nameThere)) return { do: "remove node", name: node.metadata.name, nameThere };
    if (!origin || !this.#syncLabels) return { do: "nothing" };
    const labelled = labelledNode(node, origin.labels);
    return labelled === node ? { do: "nothing" } : { do: "update", resource: labelled };
  }

  /** Between all that is stored and all that Kubernetes has; before both are known there is nothing to say. */
  #compare(): void {
    if (!this.#listed) return;
    this.#stale.clear();
    for (const name of this.#keys.keys()) if (!this.#nodes.has(name)) this.#stale.add(name);
  }

  #forget(key: string): void {
    const name = this.#names.get(key);
    if (name === undefined) return;
    this.#names.delete(key);
    if (this.#keys.get(name) === key) this.#keys.delete(name);
  }
}

/** The controller of nodes. */
export const nodeSync = (): Sync => new Nodes();
