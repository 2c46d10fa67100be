import { always, given, integer, list, nullable, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { joined, nameColumn, specColumn } from "../columns.ts";

const classes = ["Agent", "BGP", "Routes"];
const sessionStates = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"];

const daemon = () =>
  always(object({
    state: text({ oneOf: ["Ready", "NotReady"] }),
    version: text(),
    routerID: text(),
    lastBootTime: text(),
    lastReconfigurationTime: text(),
  }));

const peers = () =>
  list(object({
    peerIP: text({ tags: [tags.ip] }),
    type: text({ oneOf: ["NodeMesh", "NodePeer", "GlobalPeer"] }),
    state: text({ oneOf: sessionStates }),
    since: text(),
  }));

const routes = () =>
  list(object({
    type: text({ oneOf: ["FIB", "RIB"] }),
    destination: text(),
    gateway: text(),
    interface: text(),
    learnedFrom: always(object({
      sourceType: text({ oneOf: ["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"] }),
      peerIP: text({ tags: [tags.ip] }),
    })),
  }));

const fields = object({
  spec: always(object({
    node: text({ tags: [tags.required, tags.name] }),
    classes: list(text({ oneOf: classes }), { tags: [tags.required, tags.unique] }),
    /** 0 = once. */
    updatePeriodSeconds: given(
      integer({ readable: [0, 0xffff_ffff], tags: [tags.required, tags.gte(0), tags.lte(86400)] }),
    ),
  })),
  status: always(object({
    /** RFC 3339; null is written when there is none. */
    lastUpdated: always(nullable(text())),
    agent: always(object({ birdV4: daemon(), birdV6: daemon() })),
    bgp: always(object({
      numberEstablishedV4: always(integer()),
      numberNotEstablishedV4: always(integer()),
      numberEstablishedV6: always(integer()),
      numberNotEstablishedV6: always(integer()),
      peersV4: peers(),
      peersV6: peers(),
    })),
    routes: always(object({ routesV4: routes(), routesV6: routes() })),
  })),
});

/** What is asked of which node. */
export type CalicoNodeStatusSpec = Of<typeof fields>["spec"];
/** What the node answered. */
export type CalicoNodeStatusStatus = Of<typeof fields>["status"];
/** A question to a node about its BGP daemon, sessions and routes, and the answer. */
export type CalicoNodeStatus = Resource<CalicoNodeStatusSpec, CalicoNodeStatusStatus>;

/** The kind. */
export const calicoNodeStatus = defineKind<CalicoNodeStatus>({
  kind: "CalicoNodeStatus",
  plural: "caliconodestatuses",
  shortNames: ["nodestatus", "nodestatuses"],
  namespaced: false,
  fields,
  columns: [
    nameColumn,
    specColumn("NODE", (spec) => spec.node ?? ""),
    specColumn("CLASSES", (spec) => joined(spec.classes), "wide"),
  ],
  example: {
    metadata: { name: "node-1" },
    spec: { node: "node-1", classes: ["Agent", "BGP"], updatePeriodSeconds: 10 },
  },
});
