import { hashOf, targetOf, type Variant } from "../../../kernel/netfilter/chain.ts";
import { check } from "../check.ts";
import type { ChainFact, FirewallFacts } from "../facts.ts";

/** Chains of the kernel that we stand in, with ours. */
const hooks = ["INPUT", "FORWARD", "OUTPUT"];

/** Whose a chain is, by how its name begins. */
const owners: [RegExp, string][] = [
  [/^DOCKER/, "Docker"],
  [/^ufw6?-/, "ufw"],
  [/^(FORWARD|INPUT|OUTPUT)_|^IN_|^FWD/, "firewalld"],
  [/^KUBE-/, "kube-proxy"],
  [/^LIBVIRT/, "libvirt"],
  [/^FLANNEL/, "flannel"],
  [/^CNI-/, "another CNI plugin"],
  [/^cali-/, "Calico"],
];

/** Whether our rules are where every packet passes them, and who stands before them. */
export const firewallChecks = [
  check({
    id: "jump-missing",
    about: "packets are led to our rules",
    looksAt: ["firewall"],
    fault: "{chain} of {variant} iptables does not lead to cali-{chain}: policy is not enforced there",
    cure:
      "A running agent repairs it within a second; see who flushes the tables (firewalld and ufw do when they reload).",
    find({ firewall }) {
      const variant = variantInUse(firewall);
      if (!variant) return [{ chain: "FORWARD", variant: "neither variant of" }];
      return hooks.filter((chain) => jumpAt(chainOf(firewall, variant, chain), chain) < 0).map((chain) => ({
        chain,
        variant,
      }));
    },
  }),
  check({
    id: "jump-not-first",
    about: "our rules are the first that packets meet",
    looksAt: ["firewall", "objects"],
    fault: "{count} rule(s) of {owner} stand before ours in {chain} and may accept or drop packets first: {rule}",
    cure:
      "A running agent moves its own to the top; when both fight for that place, let {owner} leave pods alone or set " +
      "chainInsertMode Append in the FelixConfiguration.",
    find({ firewall, objects }) {
      const variant = variantInUse(firewall);
      if (!variant || objects.appendsRules) return [];
      return hooks.flatMap((chain) => {
        const { rules } = chainOf(firewall, variant, chain);
        const before = rules.slice(0, Math.max(0, jumpAt({ rules }, chain)));
        if (before.length === 0) return [];
        return [{ count: before.length, owner: ownerOf(before[0]!), chain, rule: before[0]! }];
      });
    },
  }),
  check({
    id: "forward-drop",
    about: "what policy allows is forwarded",
    looksAt: ["firewall"],
    fault:
      "FORWARD of {variant} iptables drops what no rule accepts, and our accepting rule is missing: packets that policy allows " +
      "are lost",
    cure: "A running agent puts its rule back. Docker sets this policy: `iptables -P FORWARD ACCEPT` ends it.",
    find({ firewall }) {
      const variant = variantInUse(firewall);
      const forward = variant && chainOf(firewall, variant, "FORWARD");
      if (!forward || forward.policy !== "DROP") return [];
      const accepts = forward.rules.some((rule) => hashOf(rule) !== undefined && targetOf(rule) === "ACCEPT");
      return accepts ? [] : [{ variant }];
    },
  }),
  check({
    id: "both-variants",
    about: "one variant of iptables is in use",
    looksAt: ["firewall"],
    fault:
      "we use {variant} iptables, and the {other} variant filters, too ({chain}: {what}): packets have to pass both",
    cure: "Find whose rules these are (`iptables-{other}-save`) and let that program use {variant} iptables " +
      "(`update-alternatives --config iptables`), then flush the others (`iptables-{other} -F`, `-P {chain} ACCEPT`).",
    find({ firewall }) {
      const variant = variantInUse(firewall);
      const other = variant === "nft" ? "legacy" : "nft";
      if (!variant) return [];
      const found = hooks.find((chain) => says(chainOf(firewall, other, chain)) !== undefined);
      return found ? [{ variant, other, chain: found, what: says(chainOf(firewall, other, found))! }] : [];
    },
  }),
  check({
    id: "nft-drops",
    about: "no other table of nftables drops packets of pods",
    looksAt: ["firewall"],
    fault:
      "nftables' table {table} may drop packets in its chain {chain} ({hook}: {drops}), whatever our policy allows",
    cure:
      "`nft list table {table}` shows it. Accept the pools' networks there, or remove the table (`nft delete table {table}`) " +
      "when its program is not needed (firewalld: put the interfaces cali+ into the zone trusted).",
    find: ({ firewall }) => firewall.foreign.map((chain) => ({ ...chain })),
  }),
];

/** The variant in which our rules are led to; undefined = neither. */
function variantInUse(firewall: FirewallFacts): Variant | undefined {
  const jumps = (variant: Variant) =>
    hooks.filter((chain) => jumpAt(chainOf(firewall, variant, chain), chain) >= 0).length;
  const best = jumps("nft") >= jumps("legacy") ? "nft" : "legacy";
  return jumps(best) > 0 ? best : undefined;
}

const chainOf = ({ tables }: FirewallFacts, variant: Variant, chain: string): ChainFact =>
  tables[variant].get(`4 filter ${chain}`) ?? { policy: "ACCEPT", rules: [] };

const jumpAt = ({ rules }: Pick<ChainFact, "rules">, chain: string): number =>
  rules.findIndex((rule) => targetOf(rule) === `cali-${chain}`);

/** What a chain does that is not nothing. */
const says = ({ policy, rules }: ChainFact): string | undefined =>
  rules[0] ?? (policy === "ACCEPT" ? undefined : `policy ${policy}`);

function ownerOf(rule: string): string {
  const target = targetOf(rule) ?? "";
  return owners.find(([pattern]) => pattern.test(target))?.[1] ?? "somebody else";
}
