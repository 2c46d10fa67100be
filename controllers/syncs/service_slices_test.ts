import { deepEqual, equal } from "node:assert/strict";
import { resourceKey } from "../../datastore/keys.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { endpointSlices } from "../sources.ts";
import { servicesIn, serviceSliceSync } from "./service_slices.ts";
import type { Sync } from "./sync.ts";

const kv = (key: string, resource: unknown) => ({ key, value: JSON.stringify(resource), revision: 5n, created: 5n });
const naming = (kind: string, name: string, services: unknown, namespace?: string) =>
  kv(resourceKey(kind, name, namespace), {
    ...{ kind, apiVersion, metadata: { name, ...(namespace && { namespace }) } },
    spec: { egress: [{ action: "Allow", destination: { services } }] },
  });
const slice = (name: string, service: string, ...addresses: string[]) => ({
  metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": service } },
  ...{ addressType: "IPv4", endpoints: [{ addresses }], ports: [{ name: "http", protocol: "TCP", port: 80 }] },
});
const key = (name: string) => resourceKey("KubernetesEndpointSlice", name, "shop");
const take = (sync: Sync, ...all: ReturnType<typeof slice>[]) =>
  sync.kubernetes({ all: all.map((object) => endpointSlices.keep(object)) }, endpointSlices);

Deno.test("a policy names Services of its own namespace, a global one of any", () => {
  deepEqual(servicesIn(naming("NetworkPolicy", "p", { name: "web" }, "shop")), ["shop/web"]);
  deepEqual(servicesIn(naming("NetworkPolicy", "p", { name: "web", namespace: "other" }, "shop")), ["other/web"]);
  deepEqual(servicesIn(naming("GlobalNetworkPolicy", "p", { name: "web", namespace: "other" })), ["other/web"]);
  deepEqual(servicesIn(kv(resourceKey("Profile", "services"), { note: '"services"' })), []);
  deepEqual(servicesIn({ ...naming("NetworkPolicy", "p", 7, "shop"), value: '{"services"' }), []);
});

Deno.test("slices are copied while some policy names their Service, whichever is known first", () => {
  for (const policyFirst of [true, false]) {
    const sync = serviceSliceSync(), policy = naming("NetworkPolicy", "p", { name: "web" }, "shop");
    const other = naming("GlobalNetworkPolicy", "g", { name: "web", namespace: "shop" });
    if (policyFirst) sync.stored({ set: [policy], deleted: [] });
    take(sync, slice("web-1", "web", "10.0.0.1"), slice("db-1", "db", "10.0.0.2"));
    if (!policyFirst) deepEqual(sync.stored({ set: [policy], deleted: [] }), [key("web-1")]);
    const step = sync.step(key("web-1"), undefined) as { do: string; resource: Resource };
    equal(step.do, "create");
    deepEqual(step.resource.endpoints, [{ addresses: ["10.0.0.1"] }]);
    equal(sync.step(key("db-1"), undefined).do, "nothing");
    equal(sync.step(key("web-1"), step.resource).do, "nothing");
    const moved = { ...step.resource, metadata: { ...step.resource.metadata, labels: {} } };
    equal(sync.step(key("web-1"), moved).do, "update", "it must say whose it is");
    deepEqual(sync.stored({ set: [other], deleted: [policy.key] }), []);
    equal(sync.step(key("web-1"), step.resource).do, "nothing", "another policy names it");
    deepEqual(sync.stored({ set: [], deleted: [other.key] }), [key("web-1")]);
    equal(sync.step(key("web-1"), step.resource).do, "delete");
  }
});

Deno.test("a slice that goes, or of a Service that is deleted, goes from etcd", () => {
  const sync = serviceSliceSync();
  sync.stored({ set: [naming("NetworkPolicy", "p", { name: "web" }, "shop")], deleted: [] });
  take(sync, slice("web-1", "web", "10.0.0.1"));
  const { resource } = sync.step(key("web-1"), undefined) as { resource: Resource };
  deepEqual(take(sync), [key("web-1")]);
  equal(sync.step(key("web-1"), resource).do, "delete");
  deepEqual(sync.stored({ set: [kv(key("strange"), resource)], deleted: [] }), [key("strange")]);
  equal(sync.step(key("strange"), resource).do, "delete", "nobody knows where it comes from");
});
