import type { Request } from "../rtnetlink/message.ts";
import type { SetType } from "./set_members.ts";
import { addMember, createSet, destroySet, removeMember } from "./set_messages.ts";
import type { SetState } from "./wanted_set.ts";

/** One netlink request of what sets need. */
export interface SetStep {
  state: SetState;
  request: Request;
  do: "create" | "destroy" | "add" | "remove";
  member?: string;
}

/** What brings the sets to what their plans say, in the order in which packets may see it. @param revision of a type. */
export function stepsOf(states: readonly SetState[], revision: (type: SetType) => number): SetStep[] {
  return states.flatMap((s) => steps(s, revision)).sort((a, b) => rankOf(a) - rankOf(b));
}

function steps(state: SetState, revision: (type: SetType) => number): SetStep[] {
  const { name, family } = state;
  const plan = state.plan();
  const all: SetStep[] = [];
  const step = (what: SetStep["do"], request: Request, member?: string) =>
    void all.push({ state, request, do: what, member });
  if (plan.do === "create") {
    if (plan.destroyFirst) step("destroy", destroySet(name, family));
    const { type, maxelem, members } = state.want!;
    step("create", createSet({ name, type, family, maxelem, members: members.size }, revision(type)));
    if (plan.destroyFirst) members.forEach((m) => state.add.add(m));
  }
  for (const m of state.adding) if (!state.refused.has(m)) step("add", addMember(name, family, m), m);
  for (const m of state.removing) step("remove", removeMember(name, family, m), m);
  return all;
}

/**
 * A member that goes from one set to another is never in none of them. What closes comes before what opens and goes after
 * it, so that who is denied by one set before and by another afterwards is denied in between, too.
 */
function rankOf({ do: what, state: { closes } }: SetStep): number {
  if (what === "destroy" || what === "create") return what === "destroy" ? 0 : 1;
  if (what === "add") return closes ? 2 : 3;
  return closes ? 5 : 4;
}
