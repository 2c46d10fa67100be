import { always, flag, given, integer, list, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import { asNumber, duration } from "../scalars.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";

/** A reference to a key of a Kubernetes secret. */
export const bgpPassword = (go: string) =>
  object({
    secretKeyRef: given(object({
      name: text(),
      key: always(text({ required: true })),
      optional: given(flag()),
    })),
  }, { go });

const fields = object({
  spec: always(object({
    node: text({ tags: [tags.name], max: 253 }),
    nodeSelector: text({ tags: [tags.selector], max: 1024 }),
    /** `ip`, `v4:port` or `[v6]:port`. */
    peerIP: text({ tags: [tags.ipPort], max: 64 }),
    asNumber: asNumber(),
    localASNumber: given(asNumber()),
    peerSelector: text({ tags: [tags.selector], max: 1024 }),
    keepOriginalNextHop: flag(),
    nextHopMode: given(text({ oneOf: ["Auto", "Self", "Keep"] })),
    password: given(bgpPassword("Password")),
    sourceAddress: text({ oneOf: ["UseNodeIP", "None"] }),
    maxRestartTime: given(duration()),
    keepaliveTime: given(duration()),
    numAllowedLocalASNumbers: given(integer({ readable: [-(2 ** 31), 2 ** 31 - 1] })),
    ttlSecurity: given(integer({ readable: [0, 255] })),
    reachableBy: text({ tags: [tags.pattern("reachableBy", /./)], max: 64 }),
    filters: list(text({ tags: [tags.name] })),
    localWorkloadSelector: text({ tags: [tags.selector], max: 1024 }),
    reversePeering: given(text()),
  })),
});

/** Who peers with whom, and how. */
export type BGPPeerSpec = Of<typeof fields>["spec"];
/** A BGP session, or many when selectors choose its ends. */
export type BGPPeer = Resource<BGPPeerSpec>;
