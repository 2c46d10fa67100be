/**
 * `deno task bench routes [BLOCKS]`: a cluster's blocks (10,000) as VXLAN routes into the kernel, and one change among them,
 * through the agent's own path: stored values → what must hold → netlink. Beside it the same by `ip -batch`. Needs root.
 */
import { systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { silentLog } from "../../lib/log.ts";
import { enterNetns, openNetns } from "../../kernel/netns.ts";
import { NetworkInputs } from "../../agent/network/inputs.ts";
import { Dataplane } from "../../agent/dataplane/apply.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { ms, percentile, table } from "./table.ts";

const blocksOfNode = 10, changes = 50;
const resource = (kind: string, plural: string, name: string, spec: unknown) => ({
  key: `/calico/resources/v3/projectcalico.org/${plural}/${name}`,
  value: JSON.stringify({ apiVersion: "projectcalico.org/v3", kind, metadata: { name }, spec }),
  ...{ revision: 1n, created: 1n },
});
const ipText = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join(".");
const blockText = (i: number) => `${ipText(0x0a000000 + i * 64)}/26`;

function block(i: number, node: string) {
  const cidr = blockText(i);
  const value = { cidr, affinity: `host:${node}`, allocations: Array(64).fill(null), attributes: [], unallocated: [] };
  const key = `/calico/ipam/v2/assignment/ipv4/block/${cidr.replace("/", "-")}`;
  return { key, value: JSON.stringify(value), revision: 1n, created: 1n };
}

/** Runs it. */
export async function bench(args: string[]): Promise<number> {
  const count = Number(args[0] ?? 10_000), nodes = Math.ceil(count / blocksOfNode);
  await using host = await makeNamespace("vxbench");
  for (const words of ["link add eth0 type veth peer name wire", "link set wire up", "link set eth0 up"]) {
    await host.ip(words);
  }
  await host.ip("addr add 172.16.0.1/12 dev eth0");
  const inputs = new NetworkInputs({ node: "n0", birdRuns: false, env: () => undefined });
  const node = (i: number) =>
    resource("Node", "nodes", `n${i}`, {
      bgp: { ipv4Address: `${ipText(0xac100001 + i)}/12` },
      ipv4VXLANTunnelAddr: ipText(0x0a000000 + i * blocksOfNode * 64),
    });
  const set = [
    resource("IPPool", "ippools", "p", { cidr: "10.0.0.0/8", vxlanMode: "Always", blockSize: 26 }),
    ...Array.from({ length: nodes }, (_, i) => node(i)),
    ...Array.from({ length: count }, (_, i) => block(i, `n${Math.floor(i / blocksOfNode)}`)),
  ];
  const rows: string[][] = [[`${count} blocks of ${nodes} nodes`, "ms"]];
  using netns = openNetns(host.path);
  const leave = enterNetns(netns);
  try {
    const options = {
      ...{ clock: systemClock, random: Math.random, log: silentLog, health: new Health(systemClock) },
      mtuFile: undefined,
    };
    await using plane = Dataplane.start(options);
    const writes = () => plane.counts().netlinkWrites;
    const synced = () => wait("the kernel", () => plane.status().inSync, { everyMs: 1, deadlineMs: 60_000 });
    const begin = performance.now();
    inputs.update({ set, deleted: [] });
    const { desired } = inputs.desired();
    rows.push(["stored values → what must hold", ms(performance.now() - begin)]);
    plane.apply(desired);
    await synced();
    rows.push(["all of it, with routes, neighbours and forwarding in the kernel", ms(performance.now() - begin)]);
    const before = writes(), times: number[] = [];
    for (let i = 0; i < changes; i++) {
      const start = performance.now();
      // A block moves to another node and, next time, back.
      inputs.update({ set: [block(count - 1, i % 2 === 0 ? "n1" : "n2")], deleted: [] });
      const wanted = writes() + 1;
      plane.apply(inputs.desired().desired);
      await wait("the change", () => writes() >= wanted && plane.status().inSync, { everyMs: 0 });
      times.push(performance.now() - start);
    }
    times.sort((a, b) => a - b);
    rows.push(["one block changed, p50", ms(percentile(times, 0.5))]);
    rows.push(["one block changed, p99", ms(percentile(times, 0.99))]);
    rows.push(["netlink writes of one change", String((writes() - before) / changes)]);
    await byIp(host, count - blocksOfNode, rows);
  } finally {
    leave();
  }
  console.log(table(rows));
  return 0;
}

/** The same routes by one `ip -batch`, into another table. */
async function byIp(host: Namespace, count: number, rows: string[][]): Promise<void> {
  const routes = Array.from({ length: count }, (_, i) => {
    const via = ipText(0x0a000000 + Math.floor((i + blocksOfNode) / blocksOfNode) * blocksOfNode * 64);
    return `route add ${blockText(i + blocksOfNode)} via ${via} dev vxlan.calico onlink mtu 1450 table 77`;
  });
  const begin = performance.now();
  await host.runOk("ip", ["-batch", "-"], { stdin: routes.join("\n") + "\n" });
  rows.push(["the routes alone, by one `ip -batch`", ms(performance.now() - begin)]);
}
