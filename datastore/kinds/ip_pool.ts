import { always, flag, given, integer, list, object, text } from "../fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";
import { condition } from "./_condition.ts";

const modes = ["Never", "Always", "CrossSubnet"];

const fields = object({
  spec: always(object({
    /** The network, without host bits. */
    cidr: always(text({ go: "CIDR", tags: [tags.net], max: 48, format: "cidr" })),
    vxlanMode: text({ go: "VXLANMode", oneOf: modes }),
    ipipMode: text({ go: "IPIPMode", oneOf: modes }),
    /** Masquerade what leaves the pools. */
    natOutgoing: flag({ go: "NATOutgoing" }),
    /** No new addresses; what was given stays valid. */
    disabled: flag(),
    disableBGPExport: flag(),
    /** Prefix length of a block. */
    blockSize: integer({ min: 0, max: 128 }),
    nodeSelector: text({ tags: [tags.selector], max: 1024, default: "all()" }),
    namespaceSelector: text({ tags: [tags.selector], max: 1024 }),
    allowedUses: list(text({ oneOf: ["Workload", "Tunnel", "LoadBalancer"] }), { maxItems: 10 }),
    assignmentMode: given(text({ oneOf: ["Automatic", "Manual"], default: "Automatic" })),
  })),
  status: given(object({ conditions: list(condition()) })),
});

/** What a pool says. After reading, `blockSize` 0 or absent means 26 (IPv4) or 122 (IPv6). */
export type IPPoolSpec = Of<typeof fields>["spec"];
/** Addresses from which workloads and tunnels get theirs. */
export type IPPool = Resource<IPPoolSpec, Of<typeof fields>["status"]>;
