import { always, list, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";

const fields = object({
  spec: always(object({
    reservedCIDRs: list(text({ format: "cidr" }), { tags: [tags.cidrs] }),
  })),
});

/** The addresses, as real CIDRs. */
export type IPReservationSpec = Of<typeof fields>["spec"];
/** Addresses that are never given automatically. */
export type IPReservation = Resource<IPReservationSpec>;
