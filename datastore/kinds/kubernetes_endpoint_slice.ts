import { always, given, integer, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import type { Of } from "../schema/schema.ts";
import { nameColumn } from "../columns.ts";
import { int32 } from "../schema/scalars.ts";

/** As in Kubernetes' discovery.k8s.io/v1, as far as policy needs it; its spec is empty, as every resource has one. */
const fields = object({
  spec: always(object({})),
  addressType: text(),
  endpoints: list(object({ addresses: list(text()) })),
  ports: list(object({ name: text(), protocol: text(), port: given(integer({ readable: int32 })) })),
});

/** Addresses and ports of a part of a Kubernetes Service; label `kubernetes.io/service-name` says of which. */
export type KubernetesEndpointSlice = Resource<Of<typeof fields>["spec"]> & Omit<Of<typeof fields>, "spec">;

/**
 * The kind: EndpointSlices that `services` in rules name, copied by the controllers. Name and plural are those of Calico's
 * model, which keeps such objects only in memory; users have no business with it.
 */
export const kubernetesEndpointSlice = defineKind<KubernetesEndpointSlice>({
  kind: "KubernetesEndpointSlice",
  plural: "kubernetesendpointslices",
  namespaced: true,
  hasSchema: false,
  internal: true,
  fields,
  columns: [nameColumn],
  example: {
    metadata: { name: "web-x7k2p", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
    spec: {},
    ...{
      addressType: "IPv4",
      endpoints: [{ addresses: ["10.65.0.2"] }],
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    },
  },
});
