import { always, object, scalar, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn, specColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    state: always(text({ oneOf: ["", "confirmed", "pending", "pendingDeletion"] })),
    node: always(text()),
    type: text(),
    cidr: always(text({ go: "CIDR" })),
    /** Stored as text: "true" or "false". */
    deleted: always(scalar<string>({
      blank: "false",
      wanted: "bool",
      schema: () => ({ type: ["boolean", "string"], enum: [true, false, "true", "false"] }),
      read: (value) =>
        typeof value === "boolean" ? String(value) : value === "true" || value === "false" ? value : undefined,
    })),
  })),
});

/** A host's claim on a block. */
export type BlockAffinitySpec = Of<typeof fields>["spec"];
/** A host's claim on a block as a resource; IPAM over etcd keeps its own records under `/calico/ipam/v2/host/`. */
export type BlockAffinity = Resource<BlockAffinitySpec>;

/** The kind; Calico's tools do not show it. */
export const blockAffinity = defineKind<BlockAffinity>({
  kind: "BlockAffinity",
  plural: "blockaffinities",
  shortNames: ["affinity", "affinities"],
  namespaced: false,
  internal: true,
  fields,
  check({ spec }, refuse) {
    if (spec.deleted === "true") refuse("Spec.Deleted", 'spec.Deleted cannot be set to "true"', spec);
  },
  columns: [nameColumn, specColumn("NODE", (spec) => spec.node), specColumn("CIDR", (spec) => spec.cidr)],
  example: {
    metadata: { name: "node-1-192-0-2-64-26" },
    spec: { state: "confirmed", node: "node-1", type: "host", cidr: "192.0.2.64/26", deleted: "false" },
  },
});
