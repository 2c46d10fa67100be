import assert from "node:assert/strict";
import { formatCidr, formatIp, parseIp } from "../../lib/ip.ts";
import { resourceKey } from "../../datastore/keys.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { FactInputs, type KernelFacts } from "./facts.ts";

const kernel: KernelFacts = { interfaces: [{ name: "eth0", addresses: [parseIp("192.0.2.1")] }], ipv6: true };

function stored(kind: string, name: string, spec: unknown, namespace?: string): KeyValue {
  const value = JSON.stringify({ kind, apiVersion: "projectcalico.org/v3", metadata: { name, namespace }, spec });
  return { key: resourceKey(kind, name, namespace), value, revision: 1n, created: 1n };
}

function inputsWith(...set: KeyValue[]): FactInputs {
  const inputs = new FactInputs("n1", () => undefined);
  assert.deepEqual([...inputs.update({ set, deleted: [] }).broken], []);
  return inputs;
}

const factsOf = (inputs: FactInputs) => inputs.facts(inputs.parameters().settings, kernel);

Deno.test("pools give what is masqueraded and what is inside; load balancers' do not count", () => {
  const { masqueradePools, pools, settings } = factsOf(inputsWith(
    stored("IPPool", "a", { cidr: "10.1.0.0/16", natOutgoing: true, vxlanMode: "Always" }),
    stored("IPPool", "b", { cidr: "10.2.0.0/16" }),
    stored("IPPool", "c", { cidr: "10.3.0.0/16", allowedUses: ["LoadBalancer"] }),
  ));
  assert.deepEqual(masqueradePools.map(formatCidr), ["10.1.0.0/16"]);
  assert.deepEqual(pools.map(formatCidr), ["10.1.0.0/16", "10.2.0.0/16"]);
  assert.deepEqual(settings.map((s) => [s.family, s.vxlan]), [[4, true], [6, false]]);
});

Deno.test("all hosts and the others are told apart; a tunnel with an address is masqueraded", () => {
  const { allHosts, vxlanHosts, settings } = factsOf(inputsWith(
    stored("Node", "n1", { bgp: { ipv4Address: "192.0.2.1/24", ipv4IPIPTunnelAddr: "10.1.0.1" } }),
    stored("Node", "n2", { bgp: { ipv4Address: "192.0.2.2/24" }, ipv4VXLANTunnelAddr: "10.1.0.2" }),
    stored("Node", "n3", { bgp: { ipv4Address: "192.0.2.3/24" } }),
    stored("FelixConfiguration", "default", { externalNodesList: ["198.51.100.0/24"] }),
  ));
  assert.deepEqual(allHosts.map(formatIp), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.0"]);
  assert.deepEqual(vxlanHosts.map(formatIp), ["192.0.2.2", "198.51.100.0"]);
  assert.deepEqual(settings[0]!.tunnels, ["tunl0"]);
});

Deno.test("this node's configuration wins over the cluster's; a value that is not understood is named", () => {
  const inputs = inputsWith(
    stored("FelixConfiguration", "default", { iptablesFilterDenyAction: "Reject", vxlanPort: 8472 }),
    stored("FelixConfiguration", "node.n1", { iptablesFilterDenyAction: "Explode", failsafeInboundHostPorts: [] }),
  );
  const { settings, problems } = inputs.parameters();
  assert.deepEqual(problems, [{
    object: "FelixConfiguration:node.n1",
    setting: "iptablesFilterDenyAction",
    value: "Explode",
  }]);
  assert.deepEqual([settings.filterDeny, settings.vxlanPort, settings.failsafeIn], ["reject", 8472, []]);
});

Deno.test("floating addresses of local endpoints count when they are switched on, until the endpoint goes", () => {
  const endpoint = stored("WorkloadEndpoint", "n1-k8s-web-eth0", {
    ipNATs: [{ internalIP: "10.1.0.5", externalIP: "203.0.113.9" }],
  }, "shop");
  const inputs = inputsWith(endpoint);
  assert.equal(factsOf(inputs).floatingIps.size, 0);
  inputs.update({ set: [stored("FelixConfiguration", "default", { floatingIPs: "Enabled" })], deleted: [] });
  assert.deepEqual([...factsOf(inputs).floatingIps], [["203.0.113.9", "10.1.0.5"]]);
  assert.ok(inputs.update({ set: [], deleted: [endpoint.key] }).changed);
  assert.equal(factsOf(inputs).floatingIps.size, 0);
});

Deno.test("a pool that cannot be read is named and its last good version stays", () => {
  const inputs = inputsWith(stored("IPPool", "a", { cidr: "10.1.0.0/16" }));
  const broken = { ...stored("IPPool", "a", {}), value: "{" };
  assert.deepEqual([...inputs.update({ set: [broken], deleted: [] }).broken.keys()], [broken.key]);
  assert.deepEqual(factsOf(inputs).pools.map(formatCidr), ["10.1.0.0/16"]);
});
