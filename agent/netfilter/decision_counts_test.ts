import { deepEqual } from "node:assert/strict";
import { parseCounters } from "../../kernel/netfilter/counters.ts";
import { nodeCounts } from "./decision_counts.ts";
import { chainLines } from "./iptables_text.ts";
import { type Chain, deciding, type Decision, markSet, rule, setMark } from "./model.ts";

const decision = (index: number): Decision => ({
  decider: { by: "rule", policy: "NetworkPolicy:shop/db", tier: "default", index },
  ...{ direction: "ingress", action: "deny" },
});
const [first, second] = [decision(0), decision(1)];
const chain: Chain = {
  name: "cali-pi-np/shop/db",
  rules: [
    deciding(first, rule([], setMark(0x40000))),
    deciding(first, rule([markSet(0x40000)], { is: "drop" })),
    deciding(second, rule([], setMark(0x40000))),
    deciding(second, rule([markSet(0x40000)], { is: "drop" })),
  ],
};
const dispatch: Chain = {
  name: "cali-to-wl-dispatch",
  rules: [rule([{ is: "interface", direction: "out", name: "calia" }], { is: "goto", chain: "cali-tw-calia" })],
};
const place = (c: Chain) => ({ family: 4 as const, table: "filter" as const, chain: c });

function saved(c: Chain, counts: [number, number][]): string {
  const lines = chainLines(c, { family: 4, randomFully: true }).lines.map((line, i) =>
    `[${counts[i]!.join(":")}] ${line}`
  );
  return ["*filter", `:${c.name} - [0:0]`, ...lines, "COMMIT", ""].join("\n");
}

Deno.test("a rule's count is that of its first line; a line that is not as it is wanted counts nothing", () => {
  const text = saved(chain, [[5, 300], [5, 300], [2, 120], [2, 120]]).replace(
    /\n\[2:120\] (.*)cali:.{16}/,
    "\n[2:120] $1cali:0123456789abcdef",
  );
  const { decisions } = nodeCounts([place(chain)], new Map([[4, parseCounters(text)]]));
  const told = decisions.map(({ decider, packets, bytes, inKernel }) => [decider, packets, bytes, inKernel]);
  deepEqual(told, [[first.decider, 5, 300, true], [second.decider, 0, 0, false]]);
});

Deno.test("a workload's packets are those of the line that leads to its chain", () => {
  const { interfaces } = nodeCounts([place(dispatch)], new Map([[4, parseCounters(saved(dispatch, [[7, 420]]))]]));
  deepEqual(interfaces, [{ interfaceName: "calia", to: { packets: 7, bytes: 420 }, from: { packets: 0, bytes: 0 } }]);
});

Deno.test("what is not in the kernel at all is said so", () => {
  deepEqual(nodeCounts([place(chain)], new Map()).decisions.map((d) => d.inKernel), [false, false]);
});
