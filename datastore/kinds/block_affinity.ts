import { always, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";

const fields = object({
  spec: always(object({
    state: always(text({ oneOf: ["", "confirmed", "pending", "pendingDeletion"] })),
    node: always(text()),
    type: text(),
    cidr: always(text({ go: "CIDR" })),
    /** Stored as text: "true" or "false". */
    deleted: always(text()),
  })),
});

/** A host's claim on a block. */
export type BlockAffinitySpec = Of<typeof fields>["spec"];
/** A host's claim on a block as a resource; IPAM over etcd keeps its own records under `/calico/ipam/v2/host/`. */
export type BlockAffinity = Resource<BlockAffinitySpec>;
