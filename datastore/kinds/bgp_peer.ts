import { tryParseIp } from "../../lib/ip.ts";
import { always, flag, given, integer, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { asNumber, duration, int32 } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, specColumn } from "../columns.ts";
import { missingNames } from "./_references.ts";

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
    numAllowedLocalASNumbers: given(integer({ readable: int32 })),
    ttlSecurity: given(integer({ readable: [0, 255] })),
    reachableBy: text({ tags: [tags.reachableBy], max: 64 }),
    filters: list(text({ tags: [tags.name] })),
    localWorkloadSelector: text({ tags: [tags.selector], max: 1024 }),
    reversePeering: given(text({ oneOf: ["Auto", "Manual"] })),
  })),
});

/** Who peers with whom, and how. */
export type BGPPeerSpec = Of<typeof fields>["spec"];
/** A BGP session, or many when selectors choose its ends. */
export type BGPPeer = Resource<BGPPeerSpec>;

/** The kind. */
export const bgpPeer = defineKind<BGPPeer>({
  kind: "BGPPeer",
  plural: "bgppeers",
  shortNames: ["bgpp", "bgpps", "bp", "bps"],
  namespaced: false,
  fields,
  needs: ({ spec }) => missingNames("bgpfilters", spec.filters ?? [], "BGPPeer.Spec.Filters", "BGPFilter(s) not found"),
  check({ spec }, refuse) {
    const peer = spec.peerIP ? tags.splitPeer(spec.peerIP) : undefined;
    const gateway = spec.reachableBy ? tryParseIp(spec.reachableBy) : undefined;
    if (peer && gateway && peer.ip.v !== gateway.v) {
      refuse("ReachableBy", "ReachableBy and PeerIP address family mismatched", spec.reachableBy);
    }
  },
  checkSchema: ({ spec }, refuse) => checkSchema(spec, refuse),
  columns: [
    nameColumn,
    specColumn("PEERIP", (spec) => spec.peerIP ?? ""),
    specColumn("NODE", (spec) => spec.node || spec.nodeSelector || "(global)"),
    specColumn("ASN", (spec) => String(spec.asNumber ?? 0)),
  ],
  example: {
    metadata: { name: "rack-1-switch" },
    spec: { nodeSelector: "rack == 'r1'", peerIP: "192.0.2.1", asNumber: 64512 },
  },
});

function checkSchema(spec: BGPPeerSpec, refuse: (reason: string, path?: string) => void): void {
  const both = "cannot both be set";
  if (spec.node && spec.nodeSelector) refuse(`node and nodeSelector ${both}`);
  if (spec.peerIP && spec.peerSelector) refuse(`peerIP and peerSelector ${both}`);
  if (spec.peerSelector && spec.asNumber) refuse("asNumber must be empty when peerSelector is set");
  if (spec.localWorkloadSelector) {
    if (spec.peerIP) refuse("peerIP must be empty when localWorkloadSelector is set");
    if (spec.peerSelector) refuse("peerSelector must be empty when localWorkloadSelector is set");
    if (!spec.asNumber) refuse("asNumber is required when localWorkloadSelector is set");
  }
  if (spec.reachableBy && !spec.peerIP) refuse("reachableBy must be empty when peerIP is empty");
  if (spec.keepOriginalNextHop && spec.nextHopMode !== undefined) {
    refuse(`keepOriginalNextHop and nextHopMode ${both}; keepOriginalNextHop is deprecated, use nextHopMode instead`);
  }
  if (spec.reversePeering !== undefined && !["Auto", "Manual"].includes(spec.reversePeering)) {
    refuse('"spec.reversePeering" must validate all the schemas (allOf). None validated', "BGPPeer");
  }
}
