import { always, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { joined, nameColumn, specColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    reservedCIDRs: list(text({ format: "cidr" }), { tags: [tags.cidrs] }),
  })),
});

/** The addresses, as real CIDRs. */
export type IPReservationSpec = Of<typeof fields>["spec"];
/** Addresses that are never given automatically. */
export type IPReservation = Resource<IPReservationSpec>;

/** The kind. */
export const ipReservation = defineKind<IPReservation>({
  kind: "IPReservation",
  plural: "ipreservations",
  shortNames: ["reservation", "reservations"],
  namespaced: false,
  fields,
  columns: [nameColumn, specColumn("CIDRS", (spec) => joined(spec.reservedCIDRs, 80), "wide")],
  example: { metadata: { name: "printers" }, spec: { reservedCIDRs: ["192.0.2.0/30"] } },
});
