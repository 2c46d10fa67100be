import { isObject } from "../../../lib/json64.ts";
import { messageOf } from "../../../lib/problem.ts";
import { identify } from "../../../datastore/problems.ts";
import { parseSelector } from "../../../datastore/selector/index.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { check } from "../check.ts";

/** Policies that do not do what was meant. */
export const policyChecks = [
  check({
    id: "selector-invalid",
    about: "every selector of a policy can be read",
    looksAt: ["objects"],
    fault: "{policy} has a selector that cannot be read, {field}: {why}",
    cure:
      "Correct it (`tortie ctl edit …`). Until then the policy's last good version is in force; without one it denies.",
    find: ({ objects }) =>
      objects.policies.flatMap((policy) =>
        selectorsIn(policy.spec, "spec").flatMap(([field, text]) => {
          const why = faultOf(text);
          return why === undefined ? [] : [{ policy: nameOf(policy), field, why }];
        })
      ),
  }),
  check({
    id: "tier-missing",
    about: "every policy's tier exists",
    looksAt: ["objects"],
    fault: "{policy} is in tier {tier}, which does not exist: it is not in force",
    cure: "Create the tier (`tortie ctl apply`), or move the policy to another one.",
    find: ({ objects }) =>
      objects.policies.flatMap((policy) => {
        const tier = typeof policy.spec.tier === "string" && policy.spec.tier !== "" ? policy.spec.tier : "default";
        return objects.tiers.has(tier) ? [] : [{ policy: nameOf(policy), tier }];
      }),
  }),
];

const nameOf = ({ kind, metadata }: Resource): string => identify(kind, metadata.name, metadata.namespace);

/** Every member called …selector, wherever it stands. */
function selectorsIn(value: unknown, path: string): [field: string, text: string][] {
  if (Array.isArray(value)) return value.flatMap((item, i) => selectorsIn(item, `${path}[${i}]`));
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([name, member]): [string, string][] => {
    const field = `${path}.${name}`;
    if (typeof member === "string") return /selector$/i.test(name) && member !== "" ? [[field, member]] : [];
    return selectorsIn(member, field);
  });
}

function faultOf(text: string): string | undefined {
  try {
    parseSelector(text);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
