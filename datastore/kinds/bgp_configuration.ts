import { always, flag, given, integer, list, object, type Refuse, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { asNumber, duration } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, specColumn } from "../columns.ts";
import { bgpPassword } from "./bgp_peer.ts";

const blocks = (go: string) => list(object({ cidr: text({ go: "CIDR", tags: [tags.net], format: "cidr" }) }), { go });
const priority = () => given(integer({ min: 1, max: 2147483646, tags: [tags.gte(1), tags.lte(2147483646)] }));

const fields = object({
  spec: always(object({
    logSeverityScreen: text({
      default: "Info",
      pattern: {
        text: "^(?i)(Trace|Debug|Info|Warning|Error|Fatal)?$",
        test: /^(Trace|Debug|Info|Warning|Error|Fatal)?$/i,
      },
    }),
    nodeToNodeMeshEnabled: given(flag()),
    asNumber: given(asNumber()),
    serviceLoadBalancerIPs: blocks("ServiceLoadBalancerIPs"),
    serviceExternalIPs: blocks("ServiceExternalIPs"),
    serviceClusterIPs: blocks("ServiceClusterIPs"),
    serviceLoadBalancerAggregation: given(text({ oneOf: ["Enabled", "Disabled"], default: "Enabled" })),
    communities: list(
      object({
        name: text({ tags: [tags.required, tags.name], max: 253 }),
        value: text({
          tags: [tags.required],
          max: 40,
          pattern: { text: "^(\\d+):(\\d+)$|^(\\d+):(\\d+):(\\d+)$", test: /^(\d+):(\d+)$|^(\d+):(\d+):(\d+)$/ },
        }),
      }),
      { maxItems: 500 },
    ),
    prefixAdvertisements: list(
      object({
        cidr: text({ go: "CIDR", tags: [tags.required, tags.net], format: "cidr" }),
        communities: list(text(), { tags: [tags.required], maxItems: 50 }),
      }),
      { maxItems: 500 },
    ),
    listenPort: integer({ readable: [0, 65535], min: 1, max: 65535 }),
    nodeMeshPassword: given(bgpPassword("NodeMeshPassword")),
    nodeMeshMaxRestartTime: given(duration()),
    bindMode: given(text({ oneOf: ["None", "NodeIP"] })),
    ignoredInterfaces: list(text({ tags: [tags.ignoredInterface] })),
    localWorkloadPeeringIPV4: text({ tags: [tags.ipv4] }),
    localWorkloadPeeringIPV6: text({ tags: [tags.ipv6] }),
    programClusterRoutes: given(text({ oneOf: ["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"] })),
    ipv4NormalRoutePriority: priority(),
    ipv6NormalRoutePriority: priority(),
  })),
});

/** Settings of BGP, of the cluster (`default`) or of one node (`node.<name>`). */
export type BGPConfigurationSpec = Of<typeof fields>["spec"];
/** Settings of BGP. */
export type BGPConfiguration = Resource<BGPConfigurationSpec>;

/** The kind. */
export const bgpConfiguration = defineKind<BGPConfiguration>({
  kind: "BGPConfiguration",
  plural: "bgpconfigurations",
  shortNames: ["bgpconfig", "bgpconfigs"],
  namespaced: false,
  fields,
  precheck: checkDefaultOnly,
  check: ({ spec }, refuse) => checkCommunities(spec, refuse),
  checkSchema({ spec }, refuse) {
    const off = spec.nodeToNodeMeshEnabled === false;
    const forbidden = "cannot be set when nodeToNodeMeshEnabled is false";
    if (off && spec.nodeMeshPassword) refuse(`nodeMeshPassword ${forbidden}`);
    if (off && spec.nodeMeshMaxRestartTime !== undefined) refuse(`nodeMeshMaxRestartTime ${forbidden}`);
    if (spec.communities?.length && !spec.prefixAdvertisements?.length) {
      refuse("communities are defined but not used in prefixAdvertisements");
    }
  },
  columns: [
    nameColumn,
    specColumn("LOGSEVERITY", (spec) => spec.logSeverityScreen ?? ""),
    specColumn("MESHENABLED", (spec) => String(spec.nodeToNodeMeshEnabled ?? "-")),
    specColumn("ASNUMBER", (spec) => String(spec.asNumber ?? "-")),
  ],
  example: { metadata: { name: "default" }, spec: { nodeToNodeMeshEnabled: true, asNumber: 64512 } },
});

/** What may be set on the object of the whole cluster only. */
function checkDefaultOnly({ metadata, spec }: BGPConfiguration, refuse: Refuse): void {
  if (metadata.name === "default") return;
  const refused: [field: string, said: string, value: unknown][] = [
    ["NodeToNodeMeshEnabled", "nodeToNodeMeshEnabled", spec.nodeToNodeMeshEnabled],
    ["ASNumber", "ASNumber", spec.asNumber],
    ["ServiceLoadBalancerIPs", "ServiceLoadBalancerIPs", spec.serviceLoadBalancerIPs?.[0]],
    ["ServiceExternalIPs", "ServiceExternalIPs", spec.serviceExternalIPs?.[0]],
    ["ServiceClusterIPs", "ServiceClusterIPs", spec.serviceClusterIPs?.[0]],
    ["NodeMeshPassword", "nodeMeshPassword", spec.nodeMeshPassword],
    ["NodeMeshMaxRestartTime", "nodeMeshMaxRestartTime", spec.nodeMeshMaxRestartTime],
  ];
  for (const [field, said, value] of refused) {
    if (value === undefined) continue;
    refuse(`BGPConfiguration.Spec.${field}`, `Cannot set ${said} on a non default BGP Configuration.`);
  }
}

function checkCommunities(spec: BGPConfigurationSpec, refuse: Refuse): void {
  const defined = spec.communities ?? [];
  for (const { value = "" } of defined) {
    const field = "Spec.Communities[].Value";
    if (!checkCommunity(value, field, refuse)) refuse(field, "invalid community value or format used.", value);
  }
  for (const { cidr = "", communities = [] } of spec.prefixAdvertisements ?? []) {
    if (!tags.parseNetOrIp(cidr)) refuse("Spec.PrefixAdvertisement[].CIDR", "invalid CIDR value.", cidr);
    for (const value of communities) {
      const field = "Spec.PrefixAdvertisement[].Communities[]";
      if (checkCommunity(value, field, refuse) || defined.some((c) => c.name === value)) continue;
      refuse(field, "community used is invalid or not defined.", value);
    }
  }
}

/** False when the text is not `a:b` or `a:b:c`; refuses numbers beyond 16 bits in the first form, 32 in the second. */
function checkCommunity(value: string, field: string, refuse: Refuse): boolean {
  if (!/^\d+:\d+(:\d+)?$/.test(value)) return false;
  const numbers = value.split(":");
  const bits = numbers.length === 2 ? 16 : 32;
  for (const n of numbers) {
    if (Number(n) >= 2 ** bits) refuse(field, `invalid community value, expected ${bits} bit value`, value);
  }
  return true;
}
