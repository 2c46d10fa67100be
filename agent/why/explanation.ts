import { formatIp, type Ip } from "../../lib/ip.ts";
import { decisiveTerms, termText } from "../../datastore/selector/decisive.ts";
import type { Node } from "../../datastore/selector/parse.ts";
import type { PolicedEndpoint, PolicyId, Rule, TierPolicies } from "../desired_policy.ts";
import { matchWords, type Members, mismatchOf, type SetWords } from "./mismatch.ts";
import type { Stage } from "./node_walk.ts";
import type { World } from "./world.ts";

/** A rule that was looked at, and why it did not decide. */
export interface PassedOver {
  policy: PolicyId;
  /** Counted from 0; undefined when the policy has no rules for the direction. */
  rule?: number;
  why: string;
}

/** A stage in words. */
export interface Explanation {
  /** Tier that decided. */
  tier?: string;
  /** Policy, or `Profile:<name>`, that decided, and its rule, counted from 0. */
  policy?: PolicyId;
  rule?: number;
  /** Why the policy applies to the endpoint, and why the rule matches. */
  because: string[];
  /** What was looked at before, in order. */
  passedOver: PassedOver[];
}

/** Why a stage ended as it did. */
export function explain(world: World, stage: Stage): Explanation {
  const { decider, packet } = stage;
  if (!stage.endpoint || stage.at === "host") return { because: [], passedOver: [] };
  const { state } = world.rules(stage.node, packet.src.v);
  const endpoint = state.endpoints.get(stage.endpoint)!;
  const members: Members = (id) => state.sets.get(id)?.members;
  const words = setWords(world);
  const passedOver: PassedOver[] = [];
  for (const { policy, rules } of asked(world, stage, endpoint)) {
    if (rules.length === 0) passedOver.push({ policy, why: `has no ${stage.direction} rules` });
    for (const [rule, it] of rules.entries()) {
      const why = mismatchOf(it, packet, members, words);
      if (why !== undefined) passedOver.push({ policy, rule, why });
      else if (it.action === "log") passedOver.push({ policy, rule, why: "matches, logs, and goes on" });
      else if (decider.by === "rule" && decider.policy === policy && decider.index === rule) {
        const because = [...selected(world, policy, stage.endpoint), ...matchWords(it, packet, words)];
        return { tier: decider.tier, policy, rule, because, passedOver };
      } else {
        passedOver.push({ policy, rule, why: "matches, and passes to the next tier" });
        break;
      }
    }
  }
  return { tier: decider.by === "tier" ? decider.tier : undefined, because: [], passedOver };
}

/** Policies and profiles in the order in which they are asked, those of a tier that a Pass ended left out. */
function* asked(
  world: World,
  stage: Stage,
  endpoint: PolicedEndpoint,
): Generator<{ policy: PolicyId; rules: Rule[] }> {
  const { packet } = stage, { state } = world.rules(stage.node, packet.src.v);
  const lists: Record<Exclude<Stage["at"], "host">, TierPolicies[]> = {
    normal: endpoint.tiers,
    forward: endpoint.forwardTiers,
    preDNAT: endpoint.preDnatTiers,
    untracked: endpoint.untrackedTiers,
  };
  const matches = (rule: Rule) =>
    mismatchOf(rule, packet, (id) => state.sets.get(id)?.members, setWords(world)) === undefined;
  for (const tier of lists[stage.at as "normal"]) {
    for (const id of tier[stage.direction]) {
      const policy = state.policies.get(id)!;
      if (policy.staged) continue;
      const rules = policy[stage.direction];
      yield { policy: id, rules };
      if (rules.find((r) => r.action !== "log" && matches(r))?.action === "pass") break;
    }
    if (stage.decider.by === "tier" && stage.decider.tier === tier.name) return;
  }
  if (stage.at !== "normal") return;
  for (const name of endpoint.profiles) {
    yield { policy: `Profile:${name}`, rules: state.profiles.get(name)![stage.direction] };
  }
}

/** Why a policy applies to an endpoint: the terms of its selector that decide. */
function selected(world: World, policy: PolicyId, endpoint: string): string[] {
  const input = world.input(policy), subject = world.input(endpoint);
  if (input?.is !== "policy" || !subject || !("nets" in subject)) return [];
  return [`it selects the endpoint: ${terms(input.selector.root, world.labelsOf(subject))}`];
}

const terms = (root: Node, labels: Map<string, string>): string =>
  decisiveTerms(root, labels).terms.map(termText).join(", ");

/** Tells why an address is in a set, or not. */
function setWords(world: World): SetWords {
  return (id, address, { port }) => {
    const source = world.sources.get(id);
    if (!source) return `${formatIp(address)} and a set that nothing fills`;
    if (source.from === "service") return `service ${source.service} (services have no members in etcd)`;
    const holders = world.holders(address);
    const holder = holders.find((h) => source.selector.matches(world.labelsOf(h))) ?? holders[0];
    const who = holder
      ? `${formatIp(address)} is ${holder.id}, ${terms(source.selector.root, world.labelsOf(holder))}`
      : `${formatIp(address)} is no endpoint and in no network set (${source.selector.text})`;
    if (source.from === "selector") return who;
    const named = holder?.ports.filter((p) => p.name === source.port).map((p) => `${p.protocol}:${p.port}`) ?? [];
    return `port ${port} and the port named ${source.port} (${named.join(", ") || "it has none"}): ${who}`;
  };
}

/** An address in words, with who has it. */
export function addressWords(world: World, address: Ip): string {
  const [holder] = world.holders(address);
  return holder ? `${formatIp(address)} (${holder.id})` : formatIp(address);
}
