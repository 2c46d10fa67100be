import { deepEqual, equal } from "node:assert/strict";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import { encapsulationOf, encapsulationTo } from "./encapsulation.ts";
import { routeOwner, settingsDisagree } from "./route_owner.ts";

const ipip = { ipipMode: "CrossSubnet" };
const vxlan = { vxlanMode: "Always" };
const plain = { ipipMode: "Never", vxlanMode: "" };
const owners = (settings: { felix?: string; bgp?: string; birdRuns?: boolean }) =>
  [vxlan, ipip, plain, undefined].map((pool) => routeOwner(pool, { birdRuns: true, ...settings })).join(" ");

Deno.test("by default the agent programs encapsulated routes and BIRD the others", () => {
  equal(owners({}), "agent agent bird bird");
  equal(owners({ felix: "EnabledIPIPOnly", bgp: "EnabledNoEncapOnly" }), "agent agent bird bird");
  equal(owners({ felix: "nonsense", bgp: "toString" }), "agent agent bird bird");
});

Deno.test("each pair of settings that fits has one owner for each kind, IPIP always the agent", () => {
  equal(owners({ felix: "Enabled", bgp: "Disabled" }), "agent agent agent bird");
  equal(owners({ felix: "Disabled", bgp: "Enabled" }), "agent agent bird bird");
  equal(owners({ felix: "EnabledNoEncapOnly", bgp: "EnabledIPIPOnly" }), "agent agent agent bird");
});

Deno.test("settings that both claim a route give it to one; settings that both leave it give it to nobody", () => {
  equal(owners({ felix: "Enabled", bgp: "Enabled" }), "agent agent agent bird");
  equal(owners({ felix: "Disabled", bgp: "Disabled" }), "agent nobody nobody bird");
  deepEqual(
    [{}, { felix: "Enabled", bgp: "Enabled" }, { felix: "Disabled", bgp: "Disabled" }, {
      felix: "Enabled",
      bgp: "Disabled",
    }]
      .map((s) => settingsDisagree({ birdRuns: true, ...s })),
    [false, true, true, false],
  );
});

Deno.test("without BIRD the agent programs unencapsulated routes unless it is told not to", () => {
  equal(owners({ birdRuns: false }), "agent agent agent nobody");
  equal(owners({ birdRuns: false, felix: "EnabledIPIPOnly" }), "agent agent nobody nobody");
  equal(owners({ birdRuns: false, felix: "Disabled" }), "agent nobody nobody nobody");
  equal(owners({ birdRuns: false, felix: "Enabled" }), "agent agent agent nobody");
});

Deno.test("CrossSubnet sends straight to nodes of the own subnet and through the tunnel to others", () => {
  const own = parseCidr("192.168.7.0/24");
  equal(encapsulationTo(ipip, own, parseIp("192.168.7.12")), "none");
  equal(encapsulationTo(ipip, own, parseIp("192.168.8.12")), "ipip");
  equal(encapsulationTo(ipip, undefined, parseIp("192.168.8.12")), "ipip");
  equal(encapsulationTo(vxlan, own, parseIp("192.168.7.12")), "vxlan");
  deepEqual(encapsulationOf({}), { kind: "none", crossSubnet: false });
});
