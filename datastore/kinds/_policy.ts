import { flag, given, list, number, type Refuse, text } from "../schema/fields.ts";
import type { Metadata } from "../kind.ts";
import { labelOnlyText, maxNameLength } from "../names.ts";
import type { ObjectOf } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, pointer, specColumn } from "../columns.ts";
import { rule } from "./rule.ts";

const selectorText = () => text({ tags: [tags.selector], max: 1024 });
const directions = ["Ingress", "Egress"];
const hints = ["AssumeNeededOnEveryNode"];

/** `stagedAction` of the staged kinds. */
export const stagedMembers = {
  /** Set, Delete, Learn or Ignore. */
  stagedAction: text({ oneOf: ["Set", "Delete", "Learn", "Ignore"], default: "Set" }),
};

/** Members of every policy's spec. */
export const policyMembers = {
  tier: text({ tags: [tags.name], default: "default" }),
  /** Lower is earlier; none is last. */
  order: given(number()),
  ingress: list(rule(), { maxItems: 1024 }),
  egress: list(rule(), { maxItems: 1024 }),
  selector: selectorText(),
  types: list(text({ oneOf: directions }), { minItems: 1, maxItems: 2 }),
};

/** Members that only global policies have. */
export const globalMembers = {
  doNotTrack: flag(),
  preDNAT: flag(),
  applyOnForward: flag(),
};

/** Members that come last. */
export const lastMembers = {
  serviceAccountSelector: selectorText(),
  performanceHints: list(text({ oneOf: hints, tags: [tags.oneof(...hints)] }), { tags: [tags.unique] }),
};

/** The selector of namespaces, of global policies. */
export const namespaceSelector = { namespaceSelector: selectorText() };

/** What the rules below look at; every policy kind has it, some members are absent in some. */
export type AnyPolicySpec =
  & ObjectOf<typeof policyMembers>
  & ObjectOf<typeof lastMembers>
  & Partial<ObjectOf<typeof stagedMembers> & ObjectOf<typeof globalMembers> & { namespaceSelector: string }>;

/** A policy of any kind. */
interface AnyPolicy {
  metadata: Metadata;
  spec: AnyPolicySpec;
}

/** Tier, tier label and types of a policy that does not say them. A staged deletion says nothing but its tier. */
export function policyDefaults({ metadata, spec }: AnyPolicy, staged: boolean): void {
  spec.tier ||= "default";
  if (staged) spec.stagedAction ||= "Set";
  metadata.labels = { ...metadata.labels, "projectcalico.org/tier": spec.tier };
  if (spec.stagedAction === "Delete") delete spec.types;
  else if (!spec.types?.length) spec.types = defaultTypes(spec);
}

/** Ingress unless there are egress rules only; both when there are both. */
function defaultTypes({ ingress, egress }: AnyPolicySpec): string[] {
  if (!egress?.length) return ["Ingress"];
  return ingress?.length ? ["Ingress", "Egress"] : ["Egress"];
}

/** Rules of names: at most 253 bytes, and `pattern`. */
export function checkPolicyName({ name }: Metadata, pattern: RegExp, refuse: Refuse): void {
  if (name.length > maxNameLength) {
    refuse("Metadata.Name", `name is too long by ${name.length - maxNameLength} bytes`, name);
  }
  if (!pattern.test(name)) refuse("Metadata.Name", labelOnlyText, name);
}

/** Rules on the whole spec that need more than one member. `struct` is Calico's name of its type. */
export function checkPolicySpec(spec: AnyPolicySpec, struct: string, global: boolean, refuse: Refuse): void {
  if (spec.stagedAction === "Delete") {
    const { stagedAction: _, tier: __, ...rest } = spec;
    const said = Object.values(rest).some((v) => v !== undefined && v !== "" && v !== false);
    const reason = "Spec fields, except Tier, should all be zero-value if stagedAction is Delete";
    if (said) refuse(`Staged${struct}`, reason, spec);
    return;
  }
  const seen = new Set<string>();
  for (const type of spec.types ?? []) {
    if (seen.has(type)) refuse(`${struct}.Types`, `'${type}' type specified more than once`, spec.types);
    seen.add(type);
  }
  for (const { source, http } of spec.egress ?? []) {
    if (source?.services) refuse("Services", "not allowed in egress rule source", source.services);
    if (http) refuse("HTTP", `not allowed in egress rule${global ? "s" : ""}`, http);
  }
  for (const { destination } of spec.ingress ?? []) {
    if (destination?.services) refuse("Services", "not allowed in ingress rule destination", destination.services);
  }
  if (!global) return;
  for (
    const services of [
      ...(spec.egress ?? []).map((r) => r.destination?.services),
      ...(spec.ingress ?? []).map((r) => r.source?.services),
    ]
  ) {
    if (services && !services.namespace) refuse("Namespace", "must specify a namespace", "");
  }
}

/** Rules of the schema on the whole spec. */
export function checkPolicySchema(spec: AnyPolicySpec, refuse: (reason: string) => void): void {
  if (spec.doNotTrack && spec.preDNAT) refuse("preDNAT and doNotTrack cannot both be true");
  if (spec.preDNAT && spec.egress?.length) refuse("preDNAT policy cannot have any egress rules");
  if (spec.preDNAT && spec.types?.includes("Egress")) refuse("preDNAT policy cannot have 'Egress' type");
  if (!spec.applyOnForward && (spec.doNotTrack || spec.preDNAT)) {
    refuse("applyOnForward must be true if either preDNAT or doNotTrack is true");
  }
  for (const selector of [spec.selector, spec.serviceAccountSelector, spec.namespaceSelector]) {
    if (selector?.includes("global(")) refuse("global() can only be used in an EntityRule namespaceSelector");
  }
}

/** NAME TIER, wide ORDER SELECTOR. */
export const policyColumns = [
  nameColumn,
  specColumn("TIER", (spec) => String(spec.tier ?? "")),
  specColumn("ORDER", (spec) => pointer(spec.order), "wide"),
  specColumn("SELECTOR", (spec) => String(spec.selector ?? ""), "wide"),
];

/** What a policy shows when an old writer left the tier label out. */
export function showTier({ metadata }: AnyPolicy): void {
  metadata.labels = { "projectcalico.org/tier": "default", ...metadata.labels };
}
