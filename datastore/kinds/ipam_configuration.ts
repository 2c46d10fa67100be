import { always, flag, given, integer, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { onlyNamed } from "../problems.ts";
import { int32 } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn, specColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    strictAffinity: always(flag()),
    maxBlocksPerHost: integer({ readable: int32, min: 0, max: 1_000_000 }),
    autoAllocateBlocks: always(flag()),
    kubeVirtVMAddressPersistence: given(text({ oneOf: ["Enabled", "Disabled"] })),
    ipCooldownSeconds: integer({ readable: int32, min: 0, max: 1200 }),
  })),
});

/** IPAM's settings as a resource; allocation over etcd reads `/calico/ipam/v2/config` instead. */
export type IPAMConfigurationSpec = Of<typeof fields>["spec"];
/** IPAM's settings as a resource. */
export type IPAMConfiguration = Resource<IPAMConfigurationSpec>;

/** The kind. */
export const ipamConfiguration = defineKind<IPAMConfiguration>({
  kind: "IPAMConfiguration",
  plural: "ipamconfigurations",
  shortNames: ["ipamconfig", "ipamconfigs"],
  namespaced: false,
  fields,
  check({ spec }, refuse) {
    const blocks = spec.maxBlocksPerHost ?? 0;
    if (blocks < 0) refuse("MaxBlocksPerHost", "must be greater than or equal to 0", blocks);
  },
  forbids: (action, { name }) =>
    action !== "delete" && name !== "default" ? onlyNamed("an IPAMConfiguration", "default") : undefined,
  columns: [
    nameColumn,
    specColumn("STRICTAFFINITY", (spec) => String(spec.strictAffinity)),
    specColumn("AUTOALLOCATEBLOCKS", (spec) => String(spec.autoAllocateBlocks)),
    specColumn("MAXBLOCKSPERHOST", (spec) => String(spec.maxBlocksPerHost ?? 0), "wide"),
  ],
  example: { metadata: { name: "default" }, spec: { strictAffinity: false, autoAllocateBlocks: true } },
});
