import { always, given, list, number, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { labelOnlyText, labelPattern, maxLabelLength } from "../names.ts";
import { notSupported } from "../problems.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, pointer, specColumn } from "../columns.ts";
import { actions } from "./rule.ts";
import { condition } from "./_condition.ts";
import { tierIsEmpty } from "./_references.ts";

const fields = object({
  spec: always(object({
    /** Lower is earlier. */
    order: given(number()),
    /** What happens to traffic that a policy of the tier selected and no rule decided. */
    defaultAction: given(text({ tags: [tags.oneof("Deny", "Pass")], oneOf: ["Pass", "Deny"], default: "Deny" })),
  })),
  status: always(object({ conditions: list(condition()) })),
});

/** Where the tier stands and how it ends. */
export type TierSpec = Of<typeof fields>["spec"];
/** An ordered group of policies. */
export type Tier = Resource<TierSpec, Of<typeof fields>["status"]>;

/** Order of a tier that gives none. */
export const defaultTierOrder = 1_000_000;

/** Tiers that every cluster has, with the only values they may have. */
export const fixedTiers: Readonly<Record<string, { order: number; defaultAction: "Deny" | "Pass" }>> = {
  "default": { order: defaultTierOrder, defaultAction: "Deny" },
  "kube-admin": { order: 1000, defaultAction: "Pass" },
  "kube-baseline": { order: 10_000_000, defaultAction: "Pass" },
};

/** The kind. */
export const tier = defineKind<Tier>({
  kind: "Tier",
  plural: "tiers",
  namespaced: false,
  fields,
  defaults,
  onRead: (resource, how) => how === "list" && defaults(resource),
  check({ metadata }, refuse) {
    const { name } = metadata;
    if (name.length > maxLabelLength) {
      refuse("Metadata.Name", `name is too long by ${name.length - maxLabelLength} bytes`, name);
    }
    if (!labelPattern.test(name)) refuse("Metadata.Name", labelOnlyText, name);
  },
  checkSchema({ metadata, spec }, refuse) {
    // Calico's schema holds both the actions of rules and those of tiers, and tells how many of the two are broken.
    const { defaultAction = "Deny" } = spec;
    if (!["Pass", "Deny"].includes(defaultAction)) {
      const all = '"spec.defaultAction" must validate all the schemas (allOf)';
      const known = actions.includes(defaultAction);
      if (!known) refuse(`supported values: ${actions.map((v) => JSON.stringify(v)).join(", ")}`, "spec.defaultAction");
      refuse(known ? all : `${all}. None validated`, "Tier");
    }
    const fixed = fixedTiers[metadata.name];
    if (fixed && spec.defaultAction !== fixed.defaultAction) {
      refuse(`The '${metadata.name}' tier must have default action '${fixed.defaultAction}'`, "Tier");
    }
    if (fixed && spec.order !== fixed.order) refuse(`${metadata.name} tier order must be ${fixed.order}`, "Tier");
  },
  forbids: (action, { name }) =>
    action === "delete" && name in fixedTiers ? notSupported("Delete", name, `Cannot delete ${name} tier`) : undefined,
  deleteNeeds: ({ name }) => tierIsEmpty(name),
  compare: (a, b) => (a.spec.order ?? Infinity) - (b.spec.order ?? Infinity),
  columns: [nameColumn, specColumn("ORDER", (spec) => pointer(spec.order))],
  example: { metadata: { name: "security" }, spec: { order: 100, defaultAction: "Deny" }, status: {} },
});

function defaults({ spec }: Tier): void {
  spec.order ??= defaultTierOrder;
  spec.defaultAction ??= "Deny";
}
