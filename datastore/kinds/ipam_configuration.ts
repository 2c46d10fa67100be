import { always, flag, given, integer, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";

const fields = object({
  spec: always(object({
    strictAffinity: always(flag()),
    maxBlocksPerHost: integer({ min: 0, max: 1_000_000 }),
    autoAllocateBlocks: always(flag()),
    kubeVirtVMAddressPersistence: given(text({ oneOf: ["Enabled", "Disabled"] })),
    ipCooldownSeconds: integer({ min: 0, max: 1200 }),
  })),
});

/** IPAM's settings as a resource; allocation over etcd reads `/calico/ipam/v2/config` instead. */
export type IPAMConfigurationSpec = Of<typeof fields>["spec"];
/** IPAM's settings as a resource. */
export type IPAMConfiguration = Resource<IPAMConfigurationSpec>;
