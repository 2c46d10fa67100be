import * as names from "../../../agent/netfilter/names.ts";
import { type PortProtocol, setId } from "../../../agent/calc/rule_input.ts";
import { parseSelector } from "../../../datastore/selector/index.ts";
import { sameJson } from "../../../lib/json64.ts";
import type { Case, CaseRunner } from "../case_runner.ts";

interface GoPolicy {
  Kind: string;
  Namespace: string;
  Name: string;
}

interface Input {
  kind: string;
  prefix: string;
  suffix: string;
  max: number;
  policy: GoPolicy;
  interface: string;
  group: { selector: string; policies: GoPolicy[] };
  selector?: string;
  port?: string;
  protocol?: PortProtocol;
  service?: string;
  withPorts?: boolean;
  id: string;
  direction: "ingress" | "egress";
  tier: string;
  chain: string;
  rules: string[];
  backend: string;
}

const maxNftName = 256;

/** names.json: chain and set names, hashes and log prefixes, exact. */
export const runner: CaseRunner = {
  run(one: Case) {
    const input = one.input as unknown as Input;
    const got = answers[input.kind]?.(input);
    if (sameJson(got, one.expect)) return { is: "passed" };
    return { is: "failed", difference: `expected ${JSON.stringify(one.expect)}\ngot      ${JSON.stringify(got)}` };
  },
};

const policyOf = (p: GoPolicy): names.PolicyName => ({
  kind: p.Kind,
  namespace: p.Namespace || undefined,
  name: p.Name,
});

const answers: Record<string, (input: Input) => unknown> = {
  "limited-name": (i) => names.limitedName(i.prefix, i.suffix, i.max),
  "policy-chain-names"(i) {
    const id = names.policySuffix(policyOf(i.policy));
    const both = (max: number) => Object.values(names.chainPrefixes.policy).map((p) => names.limitedName(p, id, max));
    return { id, iptables: both(names.maxChainName), nft: both(maxNftName) };
  },
  "profile-chain-names"(i) {
    const both = (max: number) =>
      Object.values(names.chainPrefixes.profile).map((p) => names.limitedName(p, i.suffix, max));
    return { iptables: both(names.maxChainName), nft: both(maxNftName) };
  },
  "endpoint-chain-names"(i) {
    const { workload, host, hostForward } = names.chainPrefixes;
    const prefixes = [workload, host, hostForward].flatMap((p) => Object.values(p) as string[]).concat("cali-sm-");
    return Object.fromEntries(prefixes.map((p) => [p, names.chainName(p, i.interface)]));
  },
  "group-uid"(i) {
    const policies = i.group.policies.map((p) => ({ ...policyOf(p), staged: p.Kind.startsWith("Staged") }));
    const group = { selector: i.group.selector, policies };
    const one = (direction: "ingress" | "egress") => ({
      chain: names.groupChainName(group, direction),
      inlined: names.isInlined(group),
    });
    return { inbound: one("ingress"), outbound: one("egress") };
  },
  "ipset-id"(i) {
    const selector = parseSelector(i.selector ?? "");
    const id = i.service
      ? setId({ from: "service", service: i.service, withPorts: i.withPorts === true })
      : i.port
      ? setId({ from: "namedPort", selector, protocol: i.protocol!, port: i.port })
      : selector.id;
    const canonicalSelector = i.service ? "" : selector.text;
    return { id, canonicalSelector, v4: names.setName(id, 4), v6: names.setName(id, 6) };
  },
  "ipset-name": (i) => ({
    v4: names.setName(i.id, 4),
    v6: names.setName(i.id, 6),
    temp4_0: names.temporarySetName(0, 4),
    temp6_3: names.temporarySetName(3, 6),
  }),
  "nflog-prefix"(i) {
    if (i.prefix === "end-of-tier") return names.logPrefix({ by: "tier", tier: i.tier }, i.direction);
    const action = i.prefix as "allow" | "deny" | "pass";
    const id = names.policySuffix(policyOf(i.policy));
    return names.logPrefix({ by: "rule", action, owner: "policy", index: i.max, id }, i.direction);
  },
  "rule-hashes"(i) {
    // The fragments are actions; in nft every action has a counter before it.
    const texts = i.backend === "nft"
      ? i.rules.map((r) => `counter ${r}`)
      : i.rules.map((r) => `-A ${i.chain} HASH ${r}`);
    return names.ruleHashes(i.chain, texts);
  },
};
