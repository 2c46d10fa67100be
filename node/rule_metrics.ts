import { type NodeCounts, type RuleTotal, ruleTotals } from "../agent/netfilter/decision_counts.ts";

/**
 * What rules have counted, in Prometheus' text format (version 0.0.4). Served apart from the other metrics, because it asks
 * the kernel at each look and has a line per rule. A count begins at 0 when its rule is written anew.
 */
export function ruleMetrics({ decisions, interfaces }: NodeCounts): string {
  const rules = [...ruleTotals(decisions).values()].flat();
  const ofRules = (value: (t: RuleTotal) => number) =>
    rules.map((
      t,
    ): Sample => [{ policy: t.policy, direction: t.direction, rule: `${t.rule}`, action: t.action }, value(t)]);
  const defaults = decisions.filter((d) => d.decider.by !== "rule" && d.interfaceName !== undefined);
  const ends = [...Map.groupBy(defaults, (d) => `${d.interfaceName} ${d.direction}`).values()].map((all): Sample => {
    const { interfaceName, direction } = all[0]!;
    return [{ interface: interfaceName!, direction }, all.reduce((n, d) => n + d.packets, 0)];
  });
  const traffic = interfaces.flatMap(({ interfaceName, to, from }): Sample[] => [
    [{ interface: interfaceName, way: "to" }, to.packets],
    [{ interface: interfaceName, way: "from" }, from.packets],
  ]);
  return [
    ...metric(
      "tortie_rule_packets",
      "Packets that a rule of a policy or profile matched on this host.",
      ofRules((t) => t.packets),
    ),
    ...metric("tortie_rule_bytes", "Their bytes.", ofRules((t) => t.bytes)),
    ...metric(
      "tortie_default_denied_packets",
      "Packets that no rule decided about: dropped at the end of a tier.",
      ends,
    ),
    ...metric("tortie_endpoint_packets", "Packets of workloads' interfaces that policy was asked about.", traffic),
  ].join("\n") + "\n";
}

type Sample = [labels: Record<string, string>, value: number];

const metric = (name: string, help: string, samples: Sample[]): string[] => [
  `# HELP ${name}_total ${help}`,
  `# TYPE ${name}_total counter`,
  ...samples.map(([labels, value]) => `${name}_total{${labelText(labels)}} ${value}`),
];

const labelText = (labels: Record<string, string>): string =>
  Object.entries(labels).map(([name, value]) =>
    `${name}="${value.replaceAll(/["\\]/g, "\\$&").replaceAll("\n", "\\n")}"`
  )
    .join(",");
