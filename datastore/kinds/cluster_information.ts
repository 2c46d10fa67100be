import { always, flag, given, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";

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
