import type { Pod } from "../lab/containerd.ts";

/** What got through from one pod to another. */
export interface Reach {
  from: string;
  to: string;
  ping: boolean;
  http: boolean;
}

/** Tries ping and HTTP between every two pods, both ways, all at once. */
export async function reachability(pods: Pod[]): Promise<Reach[]> {
  const found = await Promise.all(pods.map(async (from) => {
    const others = pods.filter((p) => p !== from);
    const tries = others.flatMap(({ name, addresses: [address] }) => [
      `ping -c 1 -W 2 ${address} >/dev/null && echo ping ${name}`,
      `test "$(busybox timeout 2 wget -qO- http://${address}/hostname 2>/dev/null)" = ${name} && echo http ${name}`,
    ]);
    const script = tries.map((words) => `(${words}) &`).join("\n") + "\nwait";
    const lines = new Set((await from.exec(["sh", "-c", script], 60)).stdout.split("\n"));
    return others.map(({ name }) => ({
      ...{ from: from.name, to: name },
      ...{ ping: lines.has(`ping ${name}`), http: lines.has(`http ${name}`) },
    }));
  }));
  return found.flat();
}

/** What of ping and HTTP got through, in a word: "ping+http", "ping", "http" or "-". */
export const reachText = ({ ping, http }: Reach): string =>
  [ping && "ping", http && "http"].filter((word) => word !== false).join("+") || "-";

/** Who reaches whom, as a table: a line for each sender. */
export function reachTable(reach: Reach[], title: (pod: string) => string): string {
  const names = [...new Set(reach.map((r) => r.from))];
  const cell = (from: string, to: string) => {
    const found = reach.find((r) => r.from === from && r.to === to);
    return (found ? reachText(found) : "").padEnd(9);
  };
  const width = Math.max(...names.map((name) => title(name).length));
  const head = `${"from \\ to".padEnd(width)}  ${names.map((name) => name.padEnd(9)).join("  ")}`;
  const lines = names.map((from) => `${title(from).padEnd(width)}  ${names.map((to) => cell(from, to)).join("  ")}`);
  return [head, ...lines].map((line) => line.trimEnd()).join("\n");
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
