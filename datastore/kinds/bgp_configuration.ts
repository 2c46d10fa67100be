import { always, flag, given, integer, list, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import { asNumber, duration } from "../scalars.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";
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
