/**
 * One host of an emulated network, in the namespace that it is started in: the agent's network without datastore and
 * policy. Each line on stdin is a step of the mirror, `{"set": [[key, value]…], "deleted": [key…]}`, with `keys` its private
 * keys of WireGuard; each answer on stdout is what is not in sync in the kernel, once the rest holds. The step
 * `{"metrics": true}` is answered with WireGuard's metrics, a line each: name, peer's key or device, value.
 */
import { systemClock } from "../../../lib/clock.ts";
import { Health } from "../../../lib/health.ts";
import { silentLog } from "../../../lib/log.ts";
import type { WireguardKeys } from "../../../agent/network/wireguard.ts";
import { NetworkInputs } from "../../../agent/network/inputs.ts";
import { Dataplane } from "../../../agent/dataplane/apply.ts";
import { collectWireguard } from "../../../node/wireguard_part.ts";

interface Step {
  set?: [string, unknown][];
  deleted?: string[];
  keys?: WireguardKeys;
  metrics?: boolean;
}

const [node] = Deno.args as [string];
const inputs = new NetworkInputs({ node, birdRuns: false, env: () => undefined });
const options = { clock: systemClock, random: Math.random, log: silentLog, health: new Health(systemClock) };
const plane = Dataplane.start({ ...options, mtuFile: undefined });

/** `name peer's key value` */
function metricLines(): string[] {
  const lines: string[] = [];
  const add = (name: string, value: number, labels: Record<string, string> = {}) =>
    void lines.push(`${name} ${labels.peer_key ?? labels.iface} ${value}`);
  collectWireguard(plane.wireguardDevices(), node, { add, set: add, clear: () => {} });
  return lines;
}

let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const { set = [], deleted = [], keys, metrics } = JSON.parse(line) as Step;
    if (metrics) {
      console.log(JSON.stringify(metricLines()));
      continue;
    }
    if (keys) plane.useWireguardKeys(keys);
    const values = set.map(([key, value]) => ({ key, value: JSON.stringify(value), revision: 1n, created: 1n }));
    const { broken } = inputs.update({ set: values, deleted });
    plane.apply(inputs.desired().desired);
    await systemClock.sleep(10);
    const end = systemClock.monotonicMs() + 10_000;
    while (!plane.status().inSync && systemClock.monotonicMs() < end) await systemClock.sleep(20);
    const failed = plane.status().ports.flatMap((p) => p.failed.map((f) => `${p.name} ${f.key}: ${f.why}`));
    console.log(JSON.stringify([...broken.values(), ...failed]));
  }
}
