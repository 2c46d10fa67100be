import { always, flag, given, integer, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { int32 } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    strictAffinity: always(flag()),
    autoAllocateBlocks: always(flag()),
    maxBlocksPerHost: integer({ readable: int32 }),
    kubeVirtVMAddressPersistence: given(text()),
    ipCooldownSeconds: integer({ readable: int32 }),
  })),
});

/** The older form of IPAM's settings. */
export type IPAMConfigSpec = Of<typeof fields>["spec"];
/** The older form of IPAM's settings, internal to Calico. */
export type IPAMConfig = Resource<IPAMConfigSpec>;

/** The kind; Calico's tools do not show it. */
export const ipamConfig = defineKind<IPAMConfig>({
  kind: "IPAMConfig",
  plural: "ipamconfigs",
  namespaced: false,
  hasSchema: false,
  internal: true,
  fields,
  columns: [nameColumn],
  example: { metadata: { name: "default" }, spec: { strictAffinity: false, autoAllocateBlocks: true } },
});
