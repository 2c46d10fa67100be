import assert from "node:assert/strict";
import type { Node } from "../datastore/kinds/node.ts";
import { changesAddress, nodeChange, type NodeFacts } from "./node_resource.ts";

const address = (text: string) => ({ address: text, warnings: [] });
const facts = (more: Partial<NodeFacts> = {}): NodeFacts => ({
  name: "alpha",
  addresses: { 4: address("192.0.2.2/24"), 6: address("") },
  interfaces: [{ name: "eth0", addresses: ["192.0.2.2"] }, { name: "ifb0" }],
  ...more,
});

Deno.test("a new Node has what Calico's start-up writes", () => {
  const change = nodeChange(undefined, facts({ asNumber: 65546, kubernetesNode: "k1" }))!;
  assert.deepEqual(change.node, {
    apiVersion: "projectcalico.org/v3",
    kind: "Node",
    metadata: { name: "alpha" },
    spec: {
      bgp: { ipv4Address: "192.0.2.2/24", asNumber: 65546 },
      interfaces: [{ name: "eth0", addresses: ["192.0.2.2"] }, { name: "ifb0" }],
      orchRefs: [{ nodeName: "k1", orchestrator: "k8s" }],
    },
    status: {},
  });
});

Deno.test("nothing is written when nothing changed, whatever else the Node holds", () => {
  const stored = {
    ...nodeChange(undefined, facts())!.node,
    metadata: { name: "alpha", resourceVersion: "7", labels: { rack: "r1" } },
  } as Node;
  stored.spec.bgp!.ipv4IPIPTunnelAddr = "10.65.0.1";
  assert.equal(nodeChange(stored, facts()), undefined);
});

Deno.test("a change keeps foreign fields, the resource version and the tunnel addresses", () => {
  const stored = {
    apiVersion: "projectcalico.org/v3",
    kind: "Node",
    metadata: { name: "alpha", resourceVersion: "7", labels: { rack: "r1" } },
    spec: { bgp: { ipv4Address: "192.0.2.1/24", ipv4IPIPTunnelAddr: "10.65.0.1" }, future: { x: 1 } },
    status: { wireguardPublicKey: "k" },
  } as unknown as Node;
  const before = structuredClone(stored);
  const { node, changed } = nodeChange(stored, facts())!;
  assert.deepEqual(changed, ["spec.bgp.ipv4Address", "spec.interfaces"]);
  assert.deepEqual(node.spec.bgp, { ipv4Address: "192.0.2.2/24", ipv4IPIPTunnelAddr: "10.65.0.1" });
  assert.deepEqual((node.spec as { future?: unknown }).future, { x: 1 });
  assert.deepEqual([node.metadata, node.status], [stored.metadata, stored.status]);
  assert.deepEqual(stored, before, "the stored object is not touched");
});

Deno.test("with backend none a Node is only written for a node reference", () => {
  assert.equal(nodeChange(undefined, { name: "alpha" }), undefined);
  const { node } = nodeChange(undefined, { name: "alpha", kubernetesNode: "k1", asNumber: 1 })!;
  assert.deepEqual(node.spec, { orchRefs: [{ nodeName: "k1", orchestrator: "k8s" }] });
});

Deno.test("only a changed address asks for a look at other nodes", () => {
  const stored = nodeChange(undefined, facts())!.node;
  assert.equal(changesAddress(nodeChange(undefined, facts())!), true);
  assert.equal(changesAddress(nodeChange(stored, facts({ interfaces: [] }))!), false);
  assert.equal(
    changesAddress(nodeChange(stored, facts({ addresses: { 4: address("192.0.2.3/24"), 6: address("") } }))!),
    true,
  );
});
