import assert from "node:assert/strict";
import { Filter, type FilterRules } from "../../agent/dataplane/filter.ts";
import { defaultSettings } from "../../agent/netfilter/model.ts";
import { ownPrefixes } from "../../agent/netfilter/names.ts";
import { FilterProgram } from "../../agent/netfilter/program.ts";
import { watchNft } from "../../kernel/netfilter/nft_watch.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { createLog } from "../../lib/log.ts";
import { noMetrics } from "../../lib/metrics.ts";
import { runOk } from "../../lib/process.ts";
import { wait } from "../lab/wait.ts";
import { saved, toolsOf } from "./_netfilter_lab.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const rules: FilterRules = { settings: [defaultSettings(4)], append: false, maxSetSize: 1000 };

/** The static rules and sets of a host without endpoints. */
function staticProgram() {
  const program = new FilterProgram();
  const none = { masqueradePools: [], pools: [], ownAddresses: [], allHosts: [], vxlanHosts: [], serviceCidrs: [] };
  program.facts({ ...none, settings: rules.settings, floatingIps: new Map(), interfaces: [] });
  return program.flush();
}

/** A filter in force in a network namespace of its own. */
async function inForce(parts: { socket?: RtSocket; watch?: TableWatch } = {}) {
  const stack = new AsyncDisposableStack();
  stack.use(await enterOwnNetns("kl"));
  const watch = parts.watch ?? stack.use(watchNft({ ownPrefixes }));
  const logged: Record<string, unknown>[] = [];
  const log = createLog("filter", { write: (line) => logged.push(JSON.parse(line)) });
  const socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  const filter = stack.use(Filter.start({
    ...{ tools: { 4: toolsOf("nft") }, watch, socket, clock: systemClock, random: () => 0, log },
    ...{ health: new Health(), metrics: noMetrics },
  }));
  filter.apply(staticProgram(), rules);
  await filter.ready;
  return { socket, logged, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

const jumps = async () => (await saved("nft", "filter")).filter((l) => l.startsWith("-A FORWARD")).length;

Deno.test("sets whose headers cannot be listed are told, and do not keep tables from being repaired", async () => {
  await using host = await inForce();
  const before = await jumps();
  assert.ok(before > 0);
  host.socket.dumpBytes = () => {
    throw new Error("no memory for a listing");
  };
  await wait("the sets to be told", () => host.logged.some((l) => String(l.why).includes("no memory for a listing")));
  await runOk("iptables-nft", ["-F", "FORWARD"]);
  await wait("our jump to be back", async () => await jumps() === before);
});

Deno.test("a watch that fails is told, and followed anew", async () => {
  using inner = watchNft({ ownPrefixes });
  let failures = 0;
  const watch: TableWatch = {
    foreign: (key) => inner.foreign(key),
    begin: (key, pid) => inner.begin(key, pid),
    end: (key, pid, entries) => inner.end(key, pid, entries),
    async *changes(signal) {
      if (failures++ === 0) throw new Error("the socket broke");
      yield* inner.changes(signal);
    },
    [Symbol.dispose]: () => {},
  };
  await using host = await inForce({ watch });
  await wait("it to be followed again", () => failures === 2);
  assert.deepEqual(
    host.logged.filter((l) => l.level === "error").map((l) => [l.msg, l.why]),
    [["changes of tables are not followed", "the socket broke"]],
  );
});
