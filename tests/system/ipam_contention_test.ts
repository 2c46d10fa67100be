import { deepEqual, ok } from "node:assert/strict";
import { systemClock } from "../../lib/clock.ts";
import { formatCidr, formatIp, parseCidr } from "../../lib/ip.ts";
import { silentLog } from "../../lib/log.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { Mirror } from "../../datastore/mirror.ts";
import { prefixRange, type Store } from "../../datastore/store.ts";
import { Allocator } from "../../ipam/commit.ts";
import { blocksInOrder, startOf } from "../../ipam/pools/blocks.ts";
import { judge } from "../ipam_judge.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { CalicoWriter } from "./_calico_writer.ts";

const resources = "/calico/resources/v3/projectcalico.org/";

/** Gives and takes one address under a name; undefined = none was free. */
interface Contender {
  name: string;
  assign(handle: string): Promise<string | undefined>;
  release(handle: string): Promise<void>;
}

/** Who holds which address right now, as all contenders believe it. */
class Ledger {
  readonly held = new Map<string, string>();
  readonly doubles: string[] = [];
  /** How many each contender got. */
  readonly by = new Map<string, number>();
  refused = 0;

  /** Addresses given by contenders whose name begins so. */
  given(who: string): number {
    return [...this.by].filter(([name]) => name.startsWith(who)).reduce((sum, [, n]) => sum + n, 0);
  }

  take(who: string, address: string, handle: string): void {
    this.by.set(who, (this.by.get(who) ?? 0) + 1);
    const other = this.held.get(address);
    if (other) this.doubles.push(`${address}: ${other} and ${handle}`);
    this.held.set(address, handle);
  }
}

function connect(etcd: Etcd): Store {
  return openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 5_000 }, { clock: systemClock, log: silentLog });
}

async function prepare(store: Store, pool: string, blockSize: number, nodes: string[]): Promise<void> {
  const put = (key: string, value: unknown) => ({ put: `${resources}${key}`, value: JSON.stringify(value) });
  await store.txn({
    compare: [],
    write: [
      put("clusterinformations/default", { metadata: { name: "default" }, spec: { datastoreReady: true } }),
      put("ippools/p", { metadata: { name: "p" }, spec: { cidr: pool, blockSize } }),
      ...nodes.map((name) => put(`nodes/${name}`, { metadata: { name }, spec: {} })),
    ],
  });
}

/** One of ours: an allocator with its own connection and mirror; the endpoint goes with the address. */
async function ours(etcd: Etcd, node: string, stack: AsyncDisposableStack): Promise<Contender> {
  const store = stack.use(connect(etcd));
  const mirror = stack.use(Mirror.start({ store, clock: systemClock, log: silentLog }));
  await mirror.ready(AbortSignal.timeout(10_000));
  const parts = { store, reader: () => mirror, clock: systemClock, random: Math.random, log: silentLog };
  const allocator = stack.use(new Allocator({ ...parts, deadlineMs: 20_000 }));
  const key = (handle: string) => `${resources}workloadendpoints/shop/${handle}`;
  return {
    name: `tortie ${node}`,
    async assign(handle) {
      const [got] = await allocator.assign([{
        handle,
        node,
        use: "Workload",
        attributes: { node },
        families: { 4: 1 },
        with: ([address]) => ({
          compare: [{ key: key(handle), revision: 0n }],
          write: [{ put: key(handle), value: endpoint(node, handle, formatIp(address!.ip)) }],
        }),
      }]);
      if (got!.problem && got!.problem.code !== "exhausted") throw got!.problem;
      mirror.learn(got!.commit?.events ?? []);
      return got!.addresses[0] && formatIp(got!.addresses[0].ip);
    },
    async release(handle) {
      const [gone] = await allocator.release([{
        handle,
        with: () => ({ compare: [], write: [{ delete: key(handle) }] }),
      }]);
      if (gone!.problem) throw gone!.problem;
      mirror.learn(gone!.commit?.events ?? []);
    },
  };
}

const endpoint = (node: string, handle: string, address: string) =>
  JSON.stringify({
    spec: { node, containerID: handle.split(".")[1], ipNetworks: [`${address}/32`], interfaceName: handle },
  });

function calicos(
  etcd: Etcd,
  node: string,
  pool: string,
  size: number,
  stack: AsyncDisposableStack,
): Contender & CalicoWriter {
  const cidr = parseCidr(pool);
  const count = 1n << BigInt(size - cidr.len);
  const order = [...blocksInOrder(cidr, size, startOf(node, count))].map(formatCidr);
  return Object.assign(new CalicoWriter(stack.use(connect(etcd)), node, order, 2 ** (32 - size)), {
    name: `calico ${node}`,
  });
}

/** How many addresses each sort must have got before the race ends. */
interface Enough {
  tortie: number;
  calico: number;
}

/** On a busy machine the race ends here, and what was reached counts. */
const mostMs = 40_000;

/** Takes and gives addresses one after the other until the ledger has seen enough. */
async function work(who: Contender, worker: string, ledger: Ledger, enough: Enough): Promise<void> {
  const until = systemClock.monotonicMs() + mostMs;
  const isEnough = () => ledger.given("tortie") >= enough.tortie && ledger.given("calico") >= enough.calico;
  const isOver = () => isEnough() || systemClock.monotonicMs() > until;
  for (let i = 0; !isOver(); i++) {
    const handle = `net.${worker}-${i}`;
    const address = await who.assign(handle);
    if (address === undefined) {
      ledger.refused++;
      continue;
    }
    ledger.take(who.name, address, handle);
    // Calico's many requests get through only when ours do not fill every moment.
    await systemClock.sleep(who instanceof CalicoWriter ? 1 : 50 + Math.random() * 100);
    ledger.held.delete(address);
    await who.release(handle);
  }
}

async function contend(pool: string, blockSize: number, enough: Enough): Promise<Ledger> {
  await using stack = new AsyncDisposableStack();
  const etcd = stack.use(await startEtcd());
  const store = stack.use(connect(etcd));
  const nodes = ["h3-n1", "h3-n2", "h3-n3", "h3-n4"];
  await prepare(store, pool, blockSize, nodes);
  const us = await Promise.all(["h3-n1", "h3-n1", "h3-n2", "h3-n3"].map((node) => ours(etcd, node, stack)));
  const them = ["h3-n2", "h3-n4"].map((node) => calicos(etcd, node, pool, blockSize, stack));
  const ledger = new Ledger();
  const all = [...us, ...them].flatMap((who, w) =>
    Array.from({ length: who instanceof CalicoWriter ? 5 : 3 }, (_, i) => work(who, `c${w}w${i}`, ledger, enough))
  );
  let isOver = false;
  const churn = (async () => {
    while (!isOver) for (const c of them) await c.releaseAffinities();
  })();
  await Promise.all(all);
  isOver = true;
  await churn;
  const { values } = await store.read([prefixRange("/calico/")]);
  const dump = new Map([...values].map(([key, kv]) => [key, kv.value]));
  deepEqual(ledger.doubles, []);
  // Calico's steps may come between each other: an affinity of its nodes may stay pending, or point to what is gone.
  const wrong = judge(dump, { held: new Map(), endpoints: true, calico: true });
  const isCalicos = (w: string) => /affinity of host:h3-n[24] |its owner host:h3-n[24] has no affinity/.test(w);
  deepEqual(wrong.filter((w) => !isCalicos(w)), []);
  return ledger;
}

for (
  const [name, pool, blockSize] of [
    ["blocks of 8, nearly full", "10.9.0.0/28", 29],
    ["blocks of 4, nearly full", "10.9.0.0/28", 30],
    ["room for all", "10.9.0.0/22", 28],
  ] as const
) {
  Deno.test(`four allocators and two Calico writers on one pool give no address twice and leak none: ${name}`, async () => {
    const ledger = await contend(pool, blockSize, { tortie: 300, calico: 25 });
    ok(ledger.given("tortie") > 100 && ledger.given("calico") >= 5, "both sorts took part");
    const shares = [...ledger.by].map(([who, count]) => `${who} ${count}`).join(", ");
    console.log(`${name}: ${shares}; ${ledger.refused} refused`);
  });
}
