import { always, list, map, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";
import { rule } from "./rule.ts";

const fields = object({
  spec: always(object({
    ingress: list(rule()),
    egress: list(rule()),
    /** Labels that endpoints with this profile inherit. */
    labelsToApply: map(text(), { tags: [tags.labels] }),
  })),
});

/** Rules and labels that endpoints name. */
export type ProfileSpec = Of<typeof fields>["spec"];
/** What an endpoint gets by naming it: labels, and rules after all policies. */
export type Profile = Resource<ProfileSpec>;
