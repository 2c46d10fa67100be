import assert from "node:assert/strict";
import { isOwnSet, ownPrefixes } from "../../agent/netfilter/names.ts";
import { IpSets } from "../../kernel/netfilter/ipset.ts";
import { watchLegacy } from "../../kernel/netfilter/legacy_watch.ts";
import { watchNft } from "../../kernel/netfilter/nft_watch.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { FakeClock, systemClock } from "../../lib/clock.ts";
import { run, runOk } from "../../lib/process.ts";
import { wait } from "../lab/wait.ts";
import { chainOf, hook, kernelHandles, openTable, saved, toolsOf, variants } from "./_netfilter_lab.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const into = (chain: string) => ({ match: [], action: { is: "jump" as const, chain } });
const forward = [hook("FORWARD", false, [into("cali-FORWARD")])];
const numbered = (n: number, more = "") =>
  Array.from({ length: n }, (_, i) => `--source 10.${i >> 8}.${i & 255}.0/24${more} --jump DROP`);

/** A watch that also tells which program of ours writes. */
function spied(watch: TableWatch): TableWatch & { pid: number | undefined } {
  return {
    pid: undefined,
    foreign: (table) => watch.foreign(table),
    begin(table, pid) {
      this.pid = pid;
      watch.begin(table, pid);
    },
    end(table, pid, entries) {
      this.pid = undefined;
      watch.end(table, pid, entries);
    },
    changes: (signal) => watch.changes(signal),
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
}

function kill(pid: number): void {
  try {
    Deno.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // it ended by itself just now
  }
}

for (const variant of variants) {
  Deno.test(`${variant}: a restore that is killed in the middle leaves the old table, and is tried again`, async () => {
    await using _host = await enterOwnNetns("h9");
    const clock = new FakeClock();
    using watch = spied(variant === "legacy" ? watchLegacy({ clock: systemClock }) : watchNft({ ownPrefixes }));
    const { table } = openTable(variant, "filter", { clock, watch });
    table.wantAll([chainOf("cali-FORWARD", numbered(10))]);
    table.wantHooks(forward);
    await table.flush();
    const before = await saved(variant, "filter");
    let killed = 0;
    for (let i = 0; i < 8; i++) {
      table.want("cali-FORWARD", chainOf("cali-FORWARD", numbered(6000, ` --protocol ${i + 1}`)));
      const flushing = table.flush();
      const pid = await wait("the program", () => watch.pid, { everyMs: 1 });
      await new Promise((resolve) => setTimeout(resolve, i * 3));
      if (watch.pid === pid) kill(pid);
      const report = await flushing;
      const now = await saved(variant, "filter");
      if (report.unread) {
        killed++;
        const rules = now.filter((l) => l.startsWith("-A cali-FORWARD")).length;
        assert.ok(rules === 6000 || now.join() === before.join(), `all or nothing, not ${rules}`);
        await clock.advance(table.retryInMs!);
        assert.equal((await table.flush()).retryInMs, undefined);
      }
      assert.equal((await saved(variant, "filter")).filter((l) => l.startsWith("-A cali-FORWARD")).length, 6000);
      table.want("cali-FORWARD", chainOf("cali-FORWARD", numbered(10)));
      await table.flush();
      assert.deepEqual(await saved(variant, "filter"), before);
    }
    assert.ok(killed > 0, "none was killed in time");
  });

  Deno.test(`${variant}: a look at which the watch fails holds up nothing that comes after it`, async () => {
    await using _host = await enterOwnNetns("h9");
    const clock = new FakeClock();
    using inner = spied(variant === "legacy" ? watchLegacy({ clock: systemClock }) : watchNft({ ownPrefixes }));
    let fails = false;
    const foreign = inner.foreign;
    inner.foreign = (key) => {
      if (fails) throw new Error("no memory");
      return foreign(key);
    };
    const { table } = openTable(variant, "filter", { clock, watch: inner });
    table.wantAll([chainOf("cali-FORWARD", numbered(2))]);
    table.wantHooks(forward);
    fails = true;
    await table.look();
    assert.equal((await table.flush()).unread?.why, "no memory");
    fails = false;
    await clock.advance(table.retryInMs!);
    assert.equal((await table.flush()).retryInMs, undefined);
    fails = true;
    await table.look();
    fails = false;
    table.want("cali-FORWARD", chainOf("cali-FORWARD", numbered(3)));
    assert.equal((await table.flush()).retryInMs, undefined);
    assert.equal((await saved(variant, "filter")).filter((l) => l.startsWith("-A cali-FORWARD")).length, 3);
  });

  Deno.test(`${variant}: changes in other tables and by nobody cause no read, and nothing leaks`, async () => {
    await using _host = await enterOwnNetns("h9");
    const handles = kernelHandles();
    {
      using open = openTable(variant, "filter");
      using other = openTable(variant, "mangle", { watch: open.watch });
      for (const { table } of [open, other]) {
        table.wantAll([chainOf("cali-FORWARD", ["--jump DROP"])]);
        table.wantHooks(forward);
      }
      await Promise.all([open.table.flush(), other.table.flush()]);
      const { reads } = open.table.counts;
      assert.equal(reads, 1, "two tables written at once do not disturb each other");
      await runOk("nft", ["add", "table", "ip", "foreign"]);
      await runOk("nft", ["add", "chain", "ip", "foreign", "filter"]);
      if (variant === "nft") {
        const text =
          "*filter\n:KUBE-X - -\n:KUBE-Y - -\n-A KUBE-X -s 1.1.1.1 -j KUBE-Y\n-F KUBE-X\n-X KUBE-X\nCOMMIT\n";
        await runOk(toolsOf(variant).restore, ["--noflush"], { stdin: text });
      }
      await runOk(`iptables-${variant}`, ["-t", "mangle", "-A", "OUTPUT", "-j", "ACCEPT"]);
      await Promise.all([open.table.flush(), other.table.flush()]);
      assert.deepEqual([open.table.counts.reads, other.table.counts.reads], [reads, 2]);
      open.table.want("cali-FORWARD", chainOf("cali-FORWARD", ["--jump ACCEPT"]));
      await open.table.flush();
      assert.equal(open.table.counts.reads, reads, "no read before a write");
    }
    assert.equal(kernelHandles(), handles);
  });

  Deno.test(`${variant}: a change by hand between two writes of ours is seen, also while we write`, async () => {
    await using _host = await enterOwnNetns("h9");
    using open = openTable(variant, "filter");
    const { table } = open;
    table.wantHooks(forward);
    for (let i = 0; i < 12; i++) {
      table.want("cali-FORWARD", chainOf("cali-FORWARD", numbered(300, ` --protocol ${i + 1}`)));
      const flushing = table.flush();
      await run(`iptables-${variant}`, ["-w", "10", "-A", "FORWARD", "-s", `1.1.1.${i}`, "-j", "ACCEPT"]);
      await run(`iptables-${variant}`, ["-w", "10", "-I", "FORWARD", "-s", `1.1.2.${i}`, "-j", "ACCEPT"]);
      await flushing;
      await table.flush();
      const now = (await saved(variant, "filter")).filter((l) => l.startsWith("-A FORWARD"));
      assert.match(now[0]!, /cali-FORWARD/, "ours is first");
      assert.equal(now.length, 3 + 2 * i);
    }
  });

  Deno.test(`${variant}: iptables and ipset flushed by hand are rebuilt in the right order within a second`, async () => {
    await using _host = await enterOwnNetns("h9");
    using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
    const sets = new IpSets({
      family: 4,
      socket,
      owns: (name) => isOwnSet(name, 4),
      temporaryPrefix: "cali4t",
      clock: systemClock,
      random: () => 0,
    });
    using open = openTable(variant, "filter");
    const { table, watch } = open;
    for (const name of ["cali40s:a", "cali40s:b"]) {
      sets.want(name, { type: "hash:net", maxelem: 1000, members: numbered(300).map((l) => l.split(" ")[1]!) });
    }
    table.wantAll([
      chainOf("cali-FORWARD", ["--jump cali-tw-a"]),
      chainOf("cali-tw-a", [
        "-m set --match-set cali40s:a src --jump ACCEPT",
        "-m set --match-set cali40s:b src --jump DROP",
      ]),
    ]);
    table.wantHooks(forward);
    const apply = async () => {
      sets.check();
      await sets.flush("make");
      const report = await table.flush();
      if (report.failed.size === 0) return await sets.flush("break");
      // A set may have gone just before: it is made now, and the rules are tried at once.
      if (sets.check().length > 0) await sets.flush("make");
      table.retry();
      return await table.flush();
    };
    await apply();
    const good = await saved(variant, "filter");
    const stop = new AbortController();
    const loop = (async () => {
      for await (const _tables of watch.changes(stop.signal)) await apply();
    })();
    const second = (async () => {
      while (!stop.signal.aborted) {
        await systemClock.sleep(500, stop.signal).catch(() => {});
        if (sets.check().length > 0) await apply();
      }
    })();
    try {
      for (let i = 0; i < 5; i++) {
        await runOk(toolsOf(variant).restore, [], { stdin: "*filter\nCOMMIT\n" });
        await run("ipset", ["destroy"]);
        const start = performance.now();
        const whole = async () =>
          (await saved(variant, "filter")).join() === good.join() && sets.holds("cali40s:a") &&
          sets.check().length === 0;
        await wait("all of it", whole, { deadlineMs: 1000 });
        console.log(`      ${variant}: ${Math.round(performance.now() - start)} ms`);
      }
    } finally {
      stop.abort();
      await Promise.all([loop, second]);
    }
  });
}

for (const family of [4, 6] as const) {
  Deno.test(`legacy IPv${family}: rules that change places by hand, which no count shows, are found and repaired`, async () => {
    await using host = await enterOwnNetns("h9");
    const program = family === 4 ? "iptables-legacy" : "ip6tables-legacy";
    const [one, two] = family === 4 ? ["10.0.0.1", "10.0.0.2"] : ["fd00::1", "fd00::2"];
    using open = openTable("legacy", "filter", { family });
    const { table, watch } = open;
    table.wantAll([chainOf("cali-OUTPUT", [`--source ${one} --jump DROP`, `--source ${two} --jump DROP`])]);
    table.wantHooks([hook("OUTPUT", false, [into("cali-OUTPUT")])]);
    await runOk(program, ["-A", "OUTPUT", "-s", one!, "-j", "ACCEPT"]);
    await table.flush();
    const good = await saved("legacy", "filter", family);
    const stop = new AbortController();
    let told = 0;
    const loop = (async () => {
      for await (const tables of watch.changes(stop.signal)) {
        told += tables.length;
        await table.flush();
      }
    })();
    // Counters that move are no change.
    await host.runOk("ping", ["-c5", "-i0.2", "-W1", family === 4 ? "127.0.0.1" : "::1"]);
    assert.equal(told, 0);
    const { stdout } = await run(program + "-save", ["-t", "filter"]);
    const ours = stdout.split("\n").find((l) => l.startsWith("-A cali-OUTPUT") && l.includes(one!))!;
    try {
      const hands = [
        ["-D cali-OUTPUT 1", ours.replaceAll('"', "")],
        [`-D OUTPUT -s ${one} -j ACCEPT`, `-I OUTPUT -s ${one} -j ACCEPT`],
      ];
      for (const hand of hands) {
        const text = ["*filter", ...hand, "COMMIT", ""].join("\n");
        await runOk(program + "-restore", ["--noflush"], { stdin: text });
        const start = performance.now();
        assert.notDeepEqual(await saved("legacy", "filter", family), good);
        await wait("the repair", async () => (await saved("legacy", "filter", family)).join() === good.join(), {
          deadlineMs: 1000,
        });
        console.log(`      ${Math.round(performance.now() - start)} ms`);
      }
    } finally {
      stop.abort();
      await loop;
    }
  });
}
