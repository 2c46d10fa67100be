import type { Variant } from "../../kernel/netfilter/chain.ts";
import { changes, fill, floors, type Series, size } from "./policy_changes.ts";
import { PolicyHost } from "./policy_host.ts";
import { ms, percentile, table } from "./table.ts";

const samples = 60;

export async function bench(args: string[]): Promise<number> {
  const variants =
    (args.includes("nft") ? ["nft"] : args.includes("legacy") ? ["legacy"] : ["legacy", "nft"]) as Variant[];
  for (const variant of variants) {
    await using host = await PolicyHost.make(variant, size.endpoints + samples);
    await fill(host);
    const startMs = await host.start();
    console.log(
      `\niptables-${variant}: ${(await host.rules()).length} rules in filter, first start ${
        startMs.toFixed(0)
      } ms; load ${Deno.loadavg()[0]!.toFixed(1)}`,
    );
    const measured = await changes(host, samples);
    await host.world.stop();
    measured.push(...await floors(host, 30));
    console.log(table([["", "n", "p50 ms", "p90", "p99", "max", "CPU ms: agent", "children"], ...measured.map(row)]));
    console.log(`load ${Deno.loadavg()[0]!.toFixed(1)}`);
  }
  return 0;
}

function row({ what, ms: times, cpu }: Series): string[] {
  const at = (p: number) => ms(percentile(times, p));
  return [what, `${times.length}`, at(0.5), at(0.9), at(0.99), at(1), ms(cpu?.own ?? NaN), ms(cpu?.children ?? NaN)];
}
