import { isObject, type Json, parseJson, writeJson } from "../../lib/json64.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Rule, SetId, SideMatch } from "../desired_policy.ts";

type Members = { [name: string]: Json };
/** The part of a policy or profile that looks into sets. */
type RuleLists = { readonly ingress: Rule[]; readonly egress: Rule[] };

/**
 * What stands in for a network set whose value cannot be read and that never had a value which could: the labels and
 * networks that can be read, and each other network as a text that is none, which makes the set one of which not all
 * members are known.
 * @returns undefined for other kinds, and for what is no JSON object: nothing tells then which selectors mean it.
 */
export function closedNetworkSet(
  name: { kind: string; metadata: { name: string; namespace?: string } },
  value: string,
): Resource | undefined {
  if (!["NetworkSet", "GlobalNetworkSet"].includes(name.kind)) return undefined;
  const stored = objectIn(value);
  if (!stored) return undefined;
  const labels = membersOf(membersOf(stored.metadata).labels);
  const nets = (isObject(stored.spec) ? (stored.spec as Members).nets : stored.spec) ?? [];
  const texts = Array.isArray(nets) ? nets : [`${writeJson(nets)} in place of a list`];
  return {
    apiVersion: "projectcalico.org/v3",
    kind: name.kind,
    metadata: { ...name.metadata, labels: Object.fromEntries(Object.entries(labels).map(([k, v]) => [k, String(v)])) },
    spec: { nets: texts.map((n) => (typeof n === "string" ? n : writeJson(n))) },
  };
}

/**
 * The rules as they are in force while of some sets not all members are known. A Deny by such a set denies whatever else
 * the rule asks for, and a Pass becomes one, as a rule does that cannot be read; an Allow of everybody but the set's members
 * allows nobody. An Allow by the set, and a Deny of everybody but its members, hold for the members that are known.
 * @returns the argument itself when no rule looks into such a set.
 */
export function strictly<P extends RuleLists>(policy: P, isPartial: (set: SetId) => boolean): P {
  const all = [...policy.ingress, ...policy.egress];
  const sides = all.flatMap((r) => [r.source, r.destination]);
  if (!sides.some((s) => [...s.sets, ...s.notSets].some(isPartial))) return policy;
  const closed = (rules: Rule[]) => rules.map((rule) => closedRule(rule, isPartial));
  return { ...policy, ingress: closed(policy.ingress), egress: closed(policy.egress) };
}

function closedRule(rule: Rule, isPartial: (set: SetId) => boolean): Rule {
  const sides = [rule.source, rule.destination];
  const isIn = sides.some((s) => s.sets.some(isPartial)), isOut = sides.some((s) => s.notSets.some(isPartial));
  if (rule.action === "allow") return isOut ? { ...rule, never: true } : rule;
  if (rule.action === "log" || (rule.action === "deny" && !isIn) || (!isIn && !isOut)) return rule;
  const whole = (side: SideMatch): SideMatch => ({
    ...side,
    sets: side.sets.filter((id) => !isPartial(id)),
    notSets: rule.action === "pass" ? side.notSets.filter((id) => !isPartial(id)) : side.notSets,
  });
  return { ...rule, action: "deny", source: whole(rule.source), destination: whole(rule.destination) };
}

function objectIn(value: string): Members | undefined {
  try {
    const parsed = parseJson(value);
    return isObject(parsed) ? parsed as Members : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

const membersOf = (value: Json | undefined): Members => (isObject(value) ? value as Members : {});
