import { always, given, list, number, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";
import { condition } from "./_condition.ts";

const fields = object({
  spec: always(object({
    /** Lower is earlier. */
    order: given(number()),
    /** What happens to traffic that a policy of the tier selected and no rule decided. */
    defaultAction: given(text({ tags: [tags.oneof("Deny", "Pass")] })),
  })),
  status: always(object({ conditions: list(condition()) })),
});

/** Where the tier stands and how it ends. */
export type TierSpec = Of<typeof fields>["spec"];
/** An ordered group of policies. */
export type Tier = Resource<TierSpec, Of<typeof fields>["status"]>;
