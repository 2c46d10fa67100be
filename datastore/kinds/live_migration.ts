import { always, given, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn } from "../columns.ts";

const workload = { hostname: text(), orchestratorID: text(), workloadID: text() };
const endpoint = () => given(object({ ...workload, endpointID: text() }));

const fields = object({
  spec: always(object({
    source: given(object({ workload: given(object(workload)), workloadEndpoint: endpoint() })),
    target: given(object({ selector: given(text()), workloadEndpoint: endpoint() })),
  })),
});

/** From which workload to which. */
export type LiveMigrationSpec = Of<typeof fields>["spec"];
/** A virtual machine that moves between hosts. */
export type LiveMigration = Resource<LiveMigrationSpec>;

/** The kind; Calico's tools do not show it. */
export const liveMigration = defineKind<LiveMigration>({
  kind: "LiveMigration",
  plural: "livemigrations",
  namespaced: true,
  hasSchema: false,
  internal: true,
  fields,
  columns: [nameColumn],
  example: { metadata: { name: "vm-1", namespace: "shop" }, spec: { target: { selector: "vm == 'a2'" } } },
});
