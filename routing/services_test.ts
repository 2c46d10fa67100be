import assert from "node:assert/strict";
import { outcomeOf, twoNodes } from "./_fixtures.ts";
import type { EndpointSlice, KubernetesView, Service } from "./resources.ts";

const configurations = {
  default: {
    serviceClusterIPs: [{ cidr: "10.96.0.0/12" }],
    serviceExternalIPs: [{ cidr: "198.18.0.0/20" }, { cidr: "198.19.0.7/32" }],
    serviceLoadBalancerIPs: [{ cidr: "10.99.0.0/24" }],
  },
};

const service = (spec: Partial<Service["spec"]> = {}): Service => ({
  metadata: { name: "web", namespace: "shop" },
  spec: {
    ...{ type: "LoadBalancer", clusterIP: "10.96.0.20", clusterIPs: ["10.96.0.20"], ipFamilies: ["IPv4"] },
    ...{ externalTrafficPolicy: "Local", ...spec },
  },
  status: { loadBalancer: { ingress: [{ ip: "10.99.0.7" }] } },
});

const slice = (name: string, nodeName: string, ready?: boolean): EndpointSlice => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4",
  endpoints: [{ nodeName, conditions: { ready } }],
});

/** The announced /32s as seen from n1. */
function announced(services: Service[], endpointSlices: EndpointSlice[], node = twoNodes.n1): string[] {
  const kubernetes: KubernetesView = { services, endpointSlices, secrets: [] };
  const { speaker } = outcomeOf({ nodes: { ...twoNodes, n1: node }, configurations }, { kubernetes });
  return speaker.families[4].serviceRoutes.filter((r) => r.endsWith("/32"));
}

Deno.test("a service of policy Local is announced while any of its slices has a ready endpoint here", () => {
  const both = ["10.96.0.20/32", "10.99.0.7/32"];
  assert.deepEqual(announced([service()], [slice("a", "n1"), slice("b", "n1")]), both);
  assert.deepEqual(announced([service()], [slice("b", "n1")]), both, "one slice went, the other still counts");
  assert.deepEqual(announced([service()], [slice("a", "n1", false), slice("b", "n1", true)]), both);
  assert.deepEqual(announced([service()], [slice("a", "n1", false), slice("b", "n2", true)]), []);
  assert.deepEqual(announced([service()], []), []);
});

Deno.test("an external address outside the configured ranges is never announced", () => {
  const given = service({ externalIPs: ["198.18.0.9", "203.0.113.1"] });
  assert.ok(announced([given], [slice("a", "n1")]).includes("198.18.0.9/32"));
  assert.ok(!announced([given], [slice("a", "n1")]).includes("203.0.113.1/32"));
});

Deno.test("a single configured address of a Cluster service is announced from every node", () => {
  const cluster = service({ externalTrafficPolicy: "Cluster", externalIPs: ["198.19.0.7"] });
  assert.ok(announced([cluster], [slice("a", "n2")]).includes("198.19.0.7/32"));
  assert.deepEqual(announced([service({ externalTrafficPolicy: "Cluster" })], [slice("a", "n1")]), []);
});

Deno.test("a node that is excluded from load balancing announces nothing and keeps the ranges out of its kernel", () => {
  const labels = { "node.kubernetes.io/exclude-from-external-load-balancers": "true" };
  const nodes = { ...twoNodes, n1: { ...twoNodes.n1, labels } };
  const { speaker } = outcomeOf({ nodes, configurations });
  assert.deepEqual(speaker.families[4].serviceRoutes, []);
  assert.deepEqual(speaker.families[4].kernelRejects, ["10.96.0.0/12", "10.99.0.0/24", "198.18.0.0/20"]);
});

Deno.test("a bad range is left out alone and named; the environment replaces the cluster ranges", () => {
  const bad = { default: { serviceClusterIPs: [{ cidr: "10.96.0.0/12" }, { cidr: "10.97/16" }] } };
  const { speaker, problems } = outcomeOf({ configurations: bad });
  assert.deepEqual(speaker.families[4].serviceRoutes, ["10.96.0.0/12"]);
  assert.match(problems[0]!, /^BGPConfiguration default, spec.serviceClusterIPs\[1\]/);
  const env = { CALICO_ADVERTISE_CLUSTER_IPS: "10.112.0.0/16" };
  assert.deepEqual(outcomeOf({ configurations: bad }, { env }).speaker.families[4].serviceRoutes, ["10.112.0.0/16"]);
});
