import { always, list, map, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { alreadyExists, notSupported } from "../problems.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, pairs, specColumn } from "../columns.ts";
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

/** The profile that is in no key: endpoints without policy may name it, and everything passes. */
export const allowProfileName = "projectcalico-default-allow";

/** What stands for the built-in profile. */
export const allowProfile: Profile = {
  kind: "Profile",
  apiVersion: "projectcalico.org/v3",
  metadata: { name: allowProfileName, resourceVersion: "1" },
  spec: {
    ingress: [{ action: "Allow" }],
    egress: [{ action: "Allow" }],
  },
};

/** The kind. */
export const profile = defineKind<Profile>({
  kind: "Profile",
  plural: "profiles",
  shortNames: ["pro", "pros"],
  namespaced: false,
  hasSchema: false,
  fields,
  forbids(action, { name }) {
    if (name !== allowProfileName) return undefined;
    const title = `The profile "${name}" is`;
    if (action === "create") return alreadyExists(name, `${name} already exists. ${title} default provided by Calico`);
    const [operation, done] = action === "update" ? ["Update", "updated"] : ["Delete", "deleted"];
    return notSupported(operation!, name, `${title} a default provided by Calico and cannot be ${done}`);
  },
  columns: [nameColumn, specColumn("LABELS", (spec) => pairs(spec.labelsToApply), "wide")],
  builtIn: [allowProfile],
  example: {
    metadata: { name: "kns.shop" },
    spec: { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }], labelsToApply: { "pcns.env": "prod" } },
  },
});
