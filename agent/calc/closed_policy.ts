import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import { readResource } from "../../datastore/codec.ts";
import type { Kind, Resource } from "../../datastore/kind.ts";
import { kindByName } from "../../datastore/kinds/index.ts";
import { parseSelector } from "../../datastore/selector/index.ts";

type Members = { [name: string]: Json };

const enforcedKinds = ["NetworkPolicy", "GlobalNetworkPolicy"];

/**
 * What stands in for a policy whose value cannot be read and that never had a value which could: the same policy, of which
 * an Allow that cannot be read allows nothing and any other rule that cannot be read denies everything. It selects what the
 * value says, and everything in its reach where that part cannot be read either. So a Deny which nobody understands does
 * not become an allow.
 * @returns undefined for kinds that enforce nothing, and for what is no JSON object: nothing tells then what it was meant
 * for, and closing the whole cluster would be no protection.
 */
export function closedPolicy(
  name: { kind: string; metadata: { name: string; namespace?: string } },
  value: string,
): Resource | undefined {
  const spec = enforcedKinds.includes(name.kind) ? specOf(value) : undefined;
  if (!spec) return undefined;
  const kind = kindByName(name.kind);
  return {
    apiVersion: "projectcalico.org/v3",
    kind: name.kind,
    metadata: { ...name.metadata },
    spec: {
      tier: textOf(spec.tier) ?? "default",
      ...(typeof spec.order === "number" ? { order: spec.order } : {}),
      selector: selectorOf(spec.selector) ?? "all()",
      ...given("namespaceSelector", selectorOf(spec.namespaceSelector)),
      ...given("serviceAccountSelector", selectorOf(spec.serviceAccountSelector)),
      types: typesOf(spec),
      ingress: rulesOf(kind, spec.ingress),
      egress: rulesOf(kind, spec.egress),
      ...Object.fromEntries(
        ["applyOnForward", "preDNAT", "doNotTrack"].filter((f) => spec[f] === true).map((f) => [f, true]),
      ),
    },
  } as unknown as Resource;
}

function specOf(value: string): Members | undefined {
  try {
    const parsed = parseJson(value);
    if (!isObject(parsed)) return undefined;
    const spec = (parsed as Members).spec ?? {};
    return isObject(spec) ? spec as Members : {};
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

const textOf = (value: Json | undefined): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined;

const given = (name: string, value: string | undefined) => (value === undefined ? {} : { [name]: value });

/** A selector that can be read; undefined otherwise, which widens what is closed. */
function selectorOf(value: Json | undefined): string | undefined {
  const text = textOf(value);
  if (text === undefined) return undefined;
  try {
    parseSelector(text);
    return text;
  } catch {
    return undefined; // its own text says no more than that
  }
}

const denyAll: Json = { action: "Deny" };

function rulesOf(kind: Kind, rules: Json | undefined): Json[] {
  if (rules === undefined || rules === null) return [];
  if (!Array.isArray(rules)) return [denyAll];
  return rules.flatMap((rule) => {
    const alone = readResource(kind, { metadata: {}, spec: { ingress: [structuredClone(rule)] } });
    if (typeof alone !== "string") return (alone.spec as unknown as { ingress: Json[] }).ingress;
    const isAllow = isObject(rule) && ["Allow", "Pass", "Log"].includes(String((rule as Members).action));
    return isAllow ? [] : [denyAll];
  });
}

/** The directions that it is said to have, else those that it has rules for, else both. */
function typesOf(spec: Members): string[] {
  const both = ["Ingress", "Egress"];
  const said = Array.isArray(spec.types) ? both.filter((t) => (spec.types as Json[]).includes(t)) : [];
  if (said.length > 0) return said;
  const ruled = both.filter((t) => t.toLowerCase() in spec);
  return ruled.length > 0 ? ruled : both;
}
