import { deepEqual, equal, match } from "node:assert/strict";
import { resourceKey } from "../../datastore/keys.ts";
import { apiVersion } from "../../datastore/kind.ts";
import type { Node } from "../../datastore/kinds/node.ts";
import { defaultSpec, type HostEndpointSettings, type Running, settingsOf } from "../settings.ts";
import { hostEndpointsOf, hostEndpointSync } from "./host_endpoints.ts";

const node = (name: string, spec: Node["spec"] = {}): Node => ({
  ...{ kind: "Node", apiVersion, metadata: { name, labels: { rack: "r1" } }, spec, status: {} },
});
const on = (more: Partial<HostEndpointSettings> = {}): HostEndpointSettings => ({
  ...{ autoCreate: true, createDefault: true, templates: [] },
  ...more,
});
const running = (hostEndpoint: HostEndpointSettings): Running => ({
  ...settingsOf(defaultSpec, () => undefined).running,
  hostEndpoint,
});
const kv = (key: string, resource: unknown) => ({ key, value: JSON.stringify(resource), revision: 5n, created: 5n });

Deno.test("expected addresses are all of the node's, each once, in Calico's order, without what is none", () => {
  const [made] = hostEndpointsOf(
    node("a", {
      bgp: { ipv4Address: "10.0.0.1/24", ipv6Address: "2001:DB8:0::1/64", ipv4IPIPTunnelAddr: "192.168.0.1" },
      ...{ ipv4VXLANTunnelAddr: "192.168.0.2", wireguard: { interfaceIPv4Address: "192.168.0.3" } },
      addresses: [{ address: "10.0.0.1", type: "InternalIP" }, { address: "203.0.113.1", type: "ExternalIP" }],
      interfaces: [{ name: "eth0", addresses: ["10.0.0.1", "10.0.0.300"] }, {
        name: "eth1",
        addresses: ["172.16.0.1"],
      }],
    }),
    on(),
  );
  const expected = ["10.0.0.1", "2001:db8::1", "192.168.0.1", "192.168.0.2", "192.168.0.3", "172.16.0.1"];
  deepEqual(made!.spec.expectedIPs, expected);
  deepEqual([made!.metadata.name, made!.spec.interfaceName], ["a-auto-hep", "*"]);
});

Deno.test("a template that selects nobody, or cannot be read, makes nothing and holds no other up", () => {
  const spec = { bgp: { ipv4Address: "10.0.0.1/24" }, interfaces: [{ name: "eth0", addresses: [] }] };
  const cidrs = { interfaceCIDRs: ["10.0.0.0/8"] };
  const templates = [
    { generateName: "other", nodeSelector: "rack == 'r2'", ...cidrs },
    { generateName: "broken", nodeSelector: "rack ==", ...cidrs },
    { generateName: "pattern", nodeSelector: "all()", interfacePattern: "(" },
    { generateName: "outside", nodeSelector: "all()", interfaceCIDRs: ["192.0.2.0/24"] },
    { generateName: "good", nodeSelector: "all()", interfacePattern: "eth.*" },
  ];
  const made = hostEndpointsOf(node("a", spec), on({ createDefault: false, templates }));
  deepEqual(made.map(({ metadata }) => metadata.name), ["a-good-eth0-auto-hep"]);
  deepEqual(hostEndpointsOf(node("a", spec), on({ autoCreate: false, templates })), []);
});

Deno.test("a name that would be too long is a hash", () => {
  const [made] = hostEndpointsOf(node("n".repeat(250)), on());
  match(made!.metadata.name, /^[a-z0-9]{40,44}-auto-hep$/);
});

Deno.test("a user's host endpoint is left alone, even under the name of ours", () => {
  const sync = hostEndpointSync(), nodeKey = resourceKey("Node", "a"), key = resourceKey("HostEndpoint", "a-auto-hep");
  sync.configure!(running(on()));
  deepEqual(sync.stored({ set: [kv(nodeKey, node("a", { bgp: { ipv4Address: "10.0.0.1/24" } }))], deleted: [] }), [
    key,
  ]);
  equal(sync.step(key, undefined).do, "create");
  const users = { kind: "HostEndpoint", apiVersion, metadata: { name: "a-auto-hep" }, spec: { node: "a" } } as const;
  deepEqual(sync.stored({ set: [kv(key, users)], deleted: [] }), [key]);
  equal(sync.step(key, users).do, "nothing");
});

Deno.test("when they are switched off, or the node goes, ours go", () => {
  const sync = hostEndpointSync(), nodeKey = resourceKey("Node", "a"), key = resourceKey("HostEndpoint", "a-auto-hep");
  sync.configure!(running(on()));
  sync.stored({ set: [kv(nodeKey, node("a", { bgp: { ipv4Address: "10.0.0.1/24" } }))], deleted: [] });
  const { resource } = sync.step(key, undefined) as { resource: ReturnType<typeof hostEndpointsOf>[0] };
  equal(sync.step(key, resource).do, "nothing");
  sync.stored({ set: [kv(key, resource)], deleted: [] });
  deepEqual(sync.configure!(running(on({ autoCreate: false }))), [key, key]);
  equal(sync.step(key, resource).do, "delete");
  sync.configure!(running(on()));
  deepEqual(sync.stored({ set: [], deleted: [nodeKey] }), [key]);
  equal(sync.step(key, resource).do, "delete");
});
