import { defineKind, type Resource } from "../kind.ts";
import { checkNamespaceLabel, networkSetColumns, networkSetFields, type NetworkSetSpec } from "./network_set.ts";

/** Addresses with labels, that rules of all namespaces select. */
export type GlobalNetworkSet = Resource<NetworkSetSpec>;

/** The kind. */
export const globalNetworkSet = defineKind<GlobalNetworkSet>({
  kind: "GlobalNetworkSet",
  plural: "globalnetworksets",
  shortNames: ["gns", "gnetsets"],
  namespaced: false,
  fields: networkSetFields,
  check: ({ metadata }, refuse) => checkNamespaceLabel(metadata, refuse),
  columns: networkSetColumns,
  example: { metadata: { name: "banned", labels: { banned: "true" } }, spec: { nets: ["203.0.113.0/25"] } },
});
