import type { Pod } from "../lab/containerd.ts";

/** Which pairs could not talk, "ping web-1 -> web-2" each. */
export async function unreachablePairs(pods: Pod[]): Promise<string[]> {
  const failed = await Promise.all(pods.map(async (from) => {
    const others = pods.filter((p) => p !== from);
    const script = others.map((to) => {
      const address = to.addresses[0]!;
      return `ping -c 1 -W 2 ${address} >/dev/null || echo ping ${from.name} "->" ${to.name}\n` +
        `test "$(busybox timeout 3 wget -qO- http://${address}/hostname)" = ${to.name} || echo tcp ${from.name} "->" ${to.name}`;
    }).join("\n");
    const { stdout } = await from.exec(["sh", "-c", script], 60);
    return stdout.split("\n").filter((line) => line !== "");
  }));
  return failed.flat();
}

/** What a stream of pings that ran meanwhile lost. */
export interface Loss {
  sent: number;
  received: number;
}

/** Sends a ping every 100 ms for `seconds` and counts what came back; runs beside whatever else happens. */
export async function pingFor(from: Pod, to: Pod, seconds: number): Promise<Loss> {
  const sent = seconds * 10;
  const words = ["ping", "-q", "-c", String(sent), "-i", "0.1", "-W", "1", to.addresses[0]!];
  const { stdout } = await from.exec(words, seconds + 30);
  return { sent, received: Number(/(\d+) packets received/.exec(stdout)?.[1] ?? 0) };
}
