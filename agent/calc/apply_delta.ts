import type { PolicyDelta } from "../desired_policy.ts";
import type { PolicyState } from "./from_scratch.ts";

/** Brings a state up to date with what a flush gave; the state is changed in place. */
export function applyDelta(state: PolicyState, delta: PolicyDelta): void {
  for (const { id, type, members } of delta.setsAdded) state.sets.set(id, { type, members: new Set(members) });
  for (const { id, add, remove } of delta.setsChanged) {
    const { members } = state.sets.get(id)!;
    for (const member of add) members.add(member);
    for (const member of remove) members.delete(member);
  }
  for (const policy of delta.policies) state.policies.set(policy.id, policy);
  for (const profile of delta.profiles) state.profiles.set(profile.name, profile);
  for (const endpoint of delta.endpoints) state.endpoints.set(endpoint.id, endpoint);
  for (const id of delta.endpointsRemoved) state.endpoints.delete(id);
  for (const name of delta.profilesRemoved) state.profiles.delete(name);
  for (const id of delta.policiesRemoved) state.policies.delete(id);
  for (const id of delta.setsRemoved) state.sets.delete(id);
}
