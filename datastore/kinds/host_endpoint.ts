import { always, integer, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { protocol } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { joined, nameColumn, specColumn } from "../columns.ts";
import { hasPorts } from "./rule.ts";

const fields = object({
  spec: always(object({
    node: text({ tags: [tags.name], max: 253 }),
    /** `*` = all interfaces. */
    interfaceName: text({ tags: [tags.interfaceName], max: 15 }),
    expectedIPs: list(text({ tags: [tags.ip] })),
    profiles: list(text({ tags: [tags.name] })),
    ports: list(object({
      name: always(text({ tags: [tags.asked(tags.portName)], required: true })),
      protocol: always(protocol({ required: true })),
      port: always(integer({ readable: [0, 65535], tags: [tags.gt(0)], min: 1, max: 65535, required: true })),
    }, {
      rules({ protocol }, refuse) {
        if (hasPorts(protocol)) return;
        refuse("EndpointPort.Protocol", "EndpointPort protocol does not support ports.", protocol);
      },
    })),
  })),
});

/** Which interface of which host. */
export type HostEndpointSpec = Of<typeof fields>["spec"];
/** An interface of a host, or all of them. */
export type HostEndpoint = Resource<HostEndpointSpec>;

/** The kind. */
export const hostEndpoint = defineKind<HostEndpoint>({
  kind: "HostEndpoint",
  plural: "hostendpoints",
  shortNames: ["hep", "heps"],
  namespaced: false,
  fields,
  checkSchema({ spec }, refuse) {
    if (!spec.interfaceName && !spec.expectedIPs?.length) {
      refuse("at least one of interfaceName or expectedIPs must be specified");
    }
    if (!spec.node) refuse("node must be specified");
  },
  columns: [
    nameColumn,
    specColumn("NODE", (spec) => spec.node ?? ""),
    specColumn("INTERFACE", (spec) => spec.interfaceName ?? "", "wide"),
    specColumn("IPS", (spec) => joined(spec.expectedIPs), "wide"),
    specColumn("PROFILES", (spec) => joined(spec.profiles), "wide"),
  ],
  example: {
    metadata: { name: "node-1-eth0", labels: { role: "infra" } },
    spec: { node: "node-1", interfaceName: "eth0", expectedIPs: ["192.0.2.11"] },
  },
});
