import { always, flag, given, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { onlyNamed } from "../problems.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn, pointer, specColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    clusterGUID: text(),
    /** Comma-separated words. */
    clusterType: text(),
    /** Calico's version; never written by us. */
    calicoVersion: text(),
    /** false or absent: nothing may be programmed. */
    datastoreReady: given(flag()),
    variant: text(),
  })),
});

/** What is said once for the whole cluster. */
export type ClusterInformationSpec = Of<typeof fields>["spec"];
/** The cluster; there is one, `default`. */
export type ClusterInformation = Resource<ClusterInformationSpec>;

/** The kind. */
export const clusterInformation = defineKind<ClusterInformation>({
  kind: "ClusterInformation",
  plural: "clusterinformations",
  shortNames: ["clusterinfo", "clusterinfos"],
  namespaced: false,
  fields,
  // A version of ours would make every calicoctl of another version refuse to work with the cluster.
  defaults({ spec }, old) {
    if (old?.spec.calicoVersion) spec.calicoVersion = old.spec.calicoVersion;
    else delete spec.calicoVersion;
  },
  forbids: (action, { name }) =>
    action === "create" && name !== "default" ? onlyNamed("a Cluster Information", "default") : undefined,
  columns: [
    nameColumn,
    specColumn("CLUSTERGUID", (spec) => spec.clusterGUID ?? ""),
    specColumn("CLUSTERTYPE", (spec) => spec.clusterType ?? ""),
    specColumn("CALICOVERSION", (spec) => spec.calicoVersion ?? ""),
    specColumn("DATASTOREREADY", (spec) => pointer(spec.datastoreReady)),
  ],
  example: {
    metadata: { name: "default" },
    spec: { clusterGUID: "0123456789abcdef0123456789abcdef", clusterType: "bare", datastoreReady: true },
  },
});
