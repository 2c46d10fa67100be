import { always, list, object, type Refuse, text } from "../schema/fields.ts";
import { defineKind, type Metadata, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { joined, nameColumn, specColumn } from "../columns.ts";

/** Members of both sorts of network sets. */
export const networkSetFields = object({
  spec: always(object({
    /** Addresses and CIDRs; host bits are allowed. */
    nets: list(text({ tags: [tags.cidr] })),
  })),
});

/** The label that says the namespace is not for users to set. */
export function checkNamespaceLabel({ labels = {} }: Metadata, refuse: Refuse): void {
  const name = "projectcalico.org/namespace";
  if (name in labels) refuse("Metadata.Labels (label)", `${name} is not a valid label name`, name);
}

/** NAME, wide NETS. */
export const networkSetColumns = [
  nameColumn,
  specColumn<NetworkSet>("NETS", (spec) => joined(spec.nets, 80), "wide"),
];

/** The addresses. */
export type NetworkSetSpec = Of<typeof networkSetFields>["spec"];
/** Addresses with labels, in one namespace, that rules select. */
export type NetworkSet = Resource<NetworkSetSpec>;

/** The kind. */
export const networkSet = defineKind<NetworkSet>({
  kind: "NetworkSet",
  plural: "networksets",
  shortNames: ["netsets"],
  namespaced: true,
  fields: networkSetFields,
  check: ({ metadata }, refuse) => checkNamespaceLabel(metadata, refuse),
  columns: networkSetColumns,
  example: {
    metadata: { name: "partners", namespace: "shop", labels: { who: "partner" } },
    spec: { nets: ["198.51.100.0/24", "2001:db8::/48"] },
  },
});
