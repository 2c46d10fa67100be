import { always, flag, given, integer, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";

const fields = object({
  spec: always(object({
    strictAffinity: always(flag()),
    autoAllocateBlocks: always(flag()),
    maxBlocksPerHost: integer(),
    kubeVirtVMAddressPersistence: given(text()),
    ipCooldownSeconds: integer(),
  })),
});

/** The older form of IPAM's settings. */
export type IPAMConfigSpec = Of<typeof fields>["spec"];
/** The older form of IPAM's settings, internal to Calico. */
export type IPAMConfig = Resource<IPAMConfigSpec>;
