import { systemClock } from "../../lib/clock.ts";
import { answersOfEtcd, changes, fill, floors, type Series, size } from "./policy_changes.ts";
import { PolicyHost } from "./policy_host.ts";
import { drift, fullSync, idleShare, type Restart, restart } from "./policy_life.ts";
import { calculationCosts, kernelCosts } from "./policy_scale.ts";
import { ms, percentile, table } from "./table.ts";

/** What Felix needs on a machine of this size, and what we want to need. */
interface Goal {
  felix: string;
  target: string;
  /** Felix's p50. */
  p50: number;
}

const goals: Record<string, Goal> = {
  "one rule changed": { felix: "264 / 3490 (nft 29 / 57)", target: "90 / 400", p50: 264 },
  "one endpoint added": { felix: "246 / 426", target: "90 / 300", p50: 246 },
  "one set member added": { felix: "5.4 / 56", target: "4 / 20", p50: 5.4 },
};

/** What is done once after a start is over by then. */
const afterStartMs = 10_000;

/**
 * The agent with 500 local endpoints and 1,000 policies: what one change costs, what a restart, a full sync and rest cost,
 * with iptables-legacy and iptables-nft. Options: `legacy`, `nft`; `changes`, `life`, `sync`, `scale`; `samples=60`.
 */
export async function bench(args: string[]): Promise<number> {
  const all = !args.some((a) => ["changes", "life", "sync", "scale"].includes(a));
  const does = (part: string) => all || args.includes(part);
  const samples = Number(args.find((a) => a.startsWith("samples="))?.slice(8) ?? 60);
  const only = (["legacy", "nft"] as const).filter((v) => args.includes(v));
  for (const variant of only.length > 0 ? only : ["legacy", "nft"] as const) {
    if (!does("changes") && !does("life") && !does("sync")) break;
    await using host = await PolicyHost.make(variant, size.endpoints + samples + 2);
    await fill(host);
    const firstMs = await host.start();
    console.log(
      `\n== iptables-${variant}: ${(await host.rules()).length} rules of IPv4 in filter, ` +
        `first start ${(firstMs / 1000).toFixed(1)} s; ${load()}`,
    );
    await systemClock.sleep(afterStartMs);
    if (does("changes")) await tellChanges(host, samples);
    if (does("life")) await tellLife(host, size.endpoints + samples);
    if (does("sync") && variant === (only[0] ?? "legacy")) await tellSync(host);
  }
  if (does("scale")) await tellScale();
  return 0;
}

const load = () => `load ${Deno.loadavg()[0]!.toFixed(1)} on ${navigator.hardwareConcurrency} cores`;

async function tellChanges(host: PolicyHost, samples: number): Promise<void> {
  const measured = await changes(host, samples);
  await host.world.stop();
  const bare = await floors(host, 30);
  await host.start();
  await systemClock.sleep(afterStartMs);
  const restore = percentile(bare.at(-1)!.ms, 0.5);
  const etcd = percentile(measured.find(({ what }) => what === answersOfEtcd)!.ms, 0.5);
  const head = ["etcd write -> kernel, ms", "n", "p50", "p90", "p99", "max", "CPU: agent", "programs"];
  console.log(table([
    [...head, "Felix p50 / p99", "target", "p50 : Felix", "p50 : bare"],
    ...measured.map((s) => [...figures(s), ...beside(s, s.what.includes("member") ? etcd : restore)]),
    ...bare.map(figures),
  ]));
  console.log(load());
}

function figures({ what, ms: times, cpu }: Series): string[] {
  const at = (p: number) => ms(percentile(times, p));
  return [what, `${times.length}`, at(0.5), at(0.9), at(0.99), at(1), ms(cpu?.own ?? NaN), ms(cpu?.children ?? NaN)];
}

/** @param floor milliseconds of what it cannot do without: a bare restore of both families, or etcd's answer to the write. */
function beside({ what, ms: times }: Series, floor: number): string[] {
  const goal = goals[what], p50 = percentile(times, 0.5);
  const ratio = goal ? (p50 / goal.p50).toFixed(2) : "";
  return [goal?.felix ?? "", goal?.target ?? "", ratio, what === answersOfEtcd ? "" : (p50 / floor).toFixed(2)];
}

async function tellLife(host: PolicyHost, free: number): Promise<void> {
  const idle = await idleShare(host, 20);
  const { chain, member } = await drift(host, 15);
  const again = await restart(host, free);
  const spread = (times: number[]) => `p50 ${ms(percentile(times, 0.5))}, max ${ms(times.at(-1)!)} ms`;
  console.log(table([
    ["", "measured", "Felix", "target"],
    ["CPU at rest, % of a core", idle.toFixed(2), "1-3", "< 0.5"],
    ["a chain emptied by hand, repaired", spread(chain), "90-180 s", "1 s"],
    ["a member taken out by hand, repaired", spread(member), "90-180 s", "1 s"],
    ...restartRows(again),
  ]));
  console.log(load());
}

const restartRows = (r: Restart): string[][] => [
  ["restart in sync, ready", `${ms(r.readyMs)} ms`, "6.7 s", "1 s"],
  ["  programs started", `${r.started}`, "206", ""],
  ["  of them writing", `${r.wrote.length}`, "0", "0"],
  ["  rules changed, notifications", `${r.changedRules}, ${r.notifications}`, "0", "0"],
  ["  packets lost of sent", `${r.lost} of ${r.sent}`, "0", "0"],
];

async function tellSync(host: PolicyHost): Promise<void> {
  const rows = [["empty kernel, remote endpoints", "ready", "CPU s", "peak MiB", "at rest MiB", "Felix", "target"]];
  for (const remote of [10_000, 50_000]) {
    await host.world.stop();
    const { readyMs, cpuMs, peakMiB, restMiB } = await fullSync(host, remote);
    const cells = [`${(readyMs / 1000).toFixed(1)} s`, (cpuMs / 1000).toFixed(1), `${peakMiB}`, `${restMiB}`];
    const goal = remote === 10_000 ? ["138 MiB", "130 MiB"] : ["7.1-8.8 s, 301-336 MiB", "4 s, 280 MiB"];
    rows.push([`${remote}`, ...cells, ...goal]);
  }
  console.log(`${table(rows)}\n${load()}`);
}

async function tellScale(): Promise<void> {
  const rows = [["ms, median", "beside", "calculation", "rendering", "text", "p50 of a bare restore: legacy", "nft"]];
  for (const factor of [1, 10, 100]) {
    const [legacy, nft] = [await kernelCosts("legacy", factor), await kernelCosts("nft", factor)];
    for (const [what, steps] of await calculationCosts(factor, "nft")) {
      const own = [steps.calculation, steps.rendering, steps.text].map((n) => n.toFixed(2));
      rows.push([what, `${factor}x`, ...own, ...(what.includes("rule") ? [ms(legacy), ms(nft)] : [])]);
    }
  }
  console.log(
    `\n== cost of one change beside unrelated ones; 1x = 50 local endpoints, 100 policies\n${table(rows)}\n${load()}`,
  );
}
