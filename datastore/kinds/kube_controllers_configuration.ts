import { always, given, integer, list, map, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { maxNameLength } from "../names.ts";
import { invalid, onlyNamed } from "../problems.ts";
import { duration, int32 } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn } from "../columns.ts";
import { checkAnnotations } from "../metadata.ts";

const onOff = () => text({ tags: [tags.oneof("Enabled", "Disabled")], oneOf: ["Enabled", "Disabled"] });
const periodic = () => given(object({ reconcilerPeriod: given(duration()) }));
const createDefault = tags.pattern("createDefaultHostEndpoint", /^(Enabled|Disabled)$/);

const template = object({
  generateName: text({ tags: [tags.name], max: 253 }),
  interfaceCIDRs: list(text(), { tags: [tags.cidrs] }),
  interfacePattern: text({ tags: [tags.regexp] }),
  labels: map(text(), { tags: [tags.labels] }),
  annotations: map(text()),
  nodeSelector: text({ tags: [tags.selector] }),
}, { rules: ({ annotations = {} }, refuse) => checkAnnotations(annotations, refuse) });

const spec = () =>
  object({
    logSeverityScreen: text({ oneOf: ["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"] }),
    healthChecks: text({
      tags: [tags.oneof("Enabled", "Disabled")],
      oneOf: ["Enabled", "Disabled"],
      default: "Enabled",
    }),
    etcdV3CompactionPeriod: given(duration()),
    prometheusMetricsPort: given(integer({ readable: int32, min: 0, max: 65535 })),
    controllers: always(object({
      node: given(object({
        reconcilerPeriod: given(duration()),
        syncLabels: onOff(),
        hostEndpoint: given(object({
          autoCreate: onOff(),
          createDefaultHostEndpoint: text({ tags: [createDefault] }),
          templates: list(template),
        })),
        leakGracePeriod: given(duration()),
      })),
      policy: periodic(),
      workloadEndpoint: periodic(),
      serviceAccount: periodic(),
      namespace: periodic(),
      loadBalancer: given(object({
        assignIPs: text({ oneOf: ["AllServices", "RequestedServicesOnly"], default: "AllServices" }),
      })),
      migration: given(object({
        policyNameMigrator: text({
          tags: [tags.oneof("Enabled", "Disabled")],
          oneOf: ["Disabled", "Enabled"],
          default: "Enabled",
        }),
      })),
    })),
    debugProfilePort: given(integer({ min: 0, max: 65535 })),
  });

const fields = object({
  spec: always(spec()),
  status: always(object({ runningConfig: given(spec()), environmentVars: map(text()) })),
});

/** Which controllers run, and how. */
export type KubeControllersConfigurationSpec = Of<typeof fields>["spec"];
/** Settings of the controllers. */
export type KubeControllersConfiguration = Resource<KubeControllersConfigurationSpec, Of<typeof fields>["status"]>;

/** The kind. */
export const kubeControllersConfiguration = defineKind<KubeControllersConfiguration>({
  kind: "KubeControllersConfiguration",
  plural: "kubecontrollersconfigurations",
  shortNames: ["kubecontrollersconfig", "kubecontrollersconfigs", "kcc"],
  namespaced: false,
  fields,
  defaults,
  forbids: (action, { name }) =>
    action === "create" && name !== "default" ? onlyNamed("a Kube Controllers Configuration", "default") : undefined,
  columns: [nameColumn],
  example: {
    metadata: { name: "default" },
    spec: { controllers: { node: { reconcilerPeriod: "5m0s", syncLabels: "Enabled" } } },
    status: {},
  },
});

function defaults({ spec }: KubeControllersConfiguration): void {
  spec.prometheusMetricsPort ??= 9094;
  const { node, loadBalancer } = spec.controllers;
  if (node) node.leakGracePeriod ??= "15m0s";
  if (loadBalancer) loadBalancer.assignIPs ||= "AllServices";
  const names = new Set<string>();
  for (const t of node?.hostEndpoint?.templates ?? []) {
    const name = t.generateName ?? "";
    const where = "KubeControllersConfiguration.Node.HostEndpoint.Templates";
    if (name === "") throw invalid([{ field: where, reason: "Template name must be specified" }]);
    if (name.length > maxNameLength) {
      throw invalid([{ field: where, reason: "Template name must be shorter than 253 characters" }]);
    }
    if (names.has(name)) throw invalid([{ field: `${where}.${name}`, reason: "Template name must be unique" }]);
    names.add(name);
    if (t.interfaceCIDRs?.length || t.interfacePattern) continue;
    throw invalid([{ field: `${where}.${name}`, reason: "InterfaceCIDRs or InterfacePattern must be specified" }]);
  }
}
