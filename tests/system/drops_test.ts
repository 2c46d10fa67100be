import { deepEqual, equal, match, ok } from "node:assert/strict";
import { formatIp, parseIp } from "../../lib/ip.ts";
import type { Drop, DropReport } from "../../agent/drops/report.ts";
import { dropGroup } from "../../agent/netfilter/drop_logs.ts";
import type { Stage } from "../../agent/why/node_walk.ts";
import { agentSocket } from "../../agent/agent_socket.ts";
import { openNetns } from "../../kernel/netns.ts";
import { loggedPackets } from "../../kernel/netfilter/nflog.ts";
import { wait } from "../lab/wait.ts";
import { HostNetwork } from "../packets/host_network.ts";
import { type Probe, Prober } from "../packets/prober.ts";
import { answerOf, probes, worldOf } from "./_host_probes.ts";
import { allow, deny, felix, gnp, hep, situations, tcpTo, tier } from "./_host_situations.ts";

/** One who watches the agent's drops, as `ctl watch drops` does. */
class Watcher implements AsyncDisposable {
  readonly reports: DropReport[] = [];
  readonly #stop = new AbortController();
  readonly #reading: Promise<void>;

  constructor(net: HostNetwork, seconds = 600) {
    this.#reading = this.#read(agentSocket(net.world.socket).lines(`/v1/drops?for=${seconds}`, this.#stop.signal));
  }

  async #read(lines: AsyncIterable<string>): Promise<void> {
    for await (const line of lines) if (line !== "") this.reports.push(JSON.parse(line));
  }

  /** Until the rules that tell are in the kernel. */
  async watching(): Promise<void> {
    await Promise.race([
      this.#reading,
      wait("the rules that tell", () => this.reports.length > 0, { deadlineMs: 10_000 }),
    ]);
  }

  /** The drop of a probe; equal ones but for the source port are told as one. */
  of({ src, dst, protocol, dstPort, icmp }: Probe["frame"]): Drop | undefined {
    return this.reports.find((r): r is Drop =>
      r.is === "drop" && r.source === formatIp(src) && r.destination === formatIp(dst) && r.protocol === protocol &&
      (icmp ? r.icmp?.type === icmp.type : r.destinationPort === dstPort)
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#reading;
  }
}

/** What tells of drops, in every table of both families. */
async function tellingRules(net: HostNetwork): Promise<string[]> {
  const saved = await Promise.all(
    ["iptables", "ip6tables"].map((program) => net.world.host.runOk(`${program}-legacy-save`, [])),
  );
  return saved.join("\n").split("\n").filter((line) => line.includes("NFLOG"));
}

const noneLeft = (net: HostNetwork) =>
  wait("the rules that tell to go", async () => (await tellingRules(net)).length === 0, { deadlineMs: 15_000 });

/** Our lines without counters. */
const ownRules = async (net: HostNetwork) =>
  (await net.world.host.runOk("iptables-legacy-save", [])).split("\n").filter((line) => line.includes("cali")).sort();

/** How the kernel's rule tells what `why` calls by another name. */
function saidAs({ decider }: Stage): unknown {
  const words: Record<string, string> = {
    "DefaultEndpointToHostAction": "Configured DefaultEndpointToHostAction",
    "no host endpoint": "",
  };
  const other = words[decider.by];
  return other === undefined ? decider : { by: "another rule", words: other };
}

const podOpen = { kind: "Profile", metadata: { name: "net" }, spec: { ingress: [allow], egress: [allow] } };

Deno.test("what is dropped is told with the decision that `ctl why` predicts, in every situation of a host endpoint", async () => {
  await using net = await HostNetwork.make("dr");
  const prober = new Prober([...net.ends.values()], false);
  await net.put([tier, podOpen]);
  {
    await using watcher = new Watcher(net);
    await watcher.watching();
    let told = 0;
    for (const [name, { resources, not }] of Object.entries(situations)) {
      if (!not) continue;
      const own = new Set(resources.map((r) => r.kind + r.metadata.name));
      const felixes = own.has("FelixConfigurationdefault") ? [] : [felix({ defaultEndpointToHostAction: "Drop" })];
      await net.put([tier, podOpen, ...felixes, ...resources]);
      const known = await worldOf(net);
      // A redirect begins no connection, so the kernel drops it before policy is asked.
      const asked = not.filter((words) => !words.includes("icmp 137")).flatMap((words) => probes(net, words)).flatMap(
        (probe) => {
          const stage = answerOf(known, probe)?.stages.at(-1);
          return stage ? [{ probe, stage }] : [];
        },
      );
      watcher.reports.length = 0;
      await prober.measure(asked.map(({ probe }) => probe), () => true, 0);
      await wait(`${name}: all drops`, () => asked.every(({ probe }) => watcher.of(probe.frame)))
        .catch(() => {}); // each that lacks is named below
      for (const { probe, stage } of asked) {
        const drop = watcher.of(probe.frame);
        ok(
          drop,
          `${name}: no word of ${probe.from.name} > ${probe.to.name} ${probe.frame.protocol} ${probe.frame.dstPort}`,
        );
        deepEqual(
          [drop.decider, drop.direction],
          [saidAs(stage), stage.direction],
          `${name}: ${JSON.stringify([drop, saidAs(stage)])}`,
        );
        told++;
      }
    }
    ok(told > 100, `${told} drops`);
    console.log(`${told} drops were told with the decision that why predicts`);
  }
});

Deno.test("who watches drops finds them named, however they come to be, and leaves nothing behind", async (t) => {
  await using net = await HostNetwork.make("dr");
  const prober = new Prober([...net.ends.values()], false);
  const one = (words: string) => probes(net, words)[0]!;
  await net.put([
    ...[tier, podOpen, hep("h0", { interfaceName: "lan0" })],
    gnp("p", { order: 1, types: ["Ingress"], ingress: [{ ...deny, ...tcpTo(81) }, { ...allow, ...tcpTo(80) }] }),
  ]);
  const atRest = await ownRules(net);
  deepEqual(await tellingRules(net), [], "at rest nothing tells");
  await t.step("a workload that uses an address which is not its own", async () => {
    await using watcher = new Watcher(net);
    await watcher.watching();
    const spoofed = one("pod > left tcp 80 v4");
    const frame = { ...spoofed.frame, src: parseIp("10.65.200.200") };
    await prober.measure([{ ...spoofed, frame }], () => true, 0);
    await wait("the drop", () => watcher.of(frame));
    deepEqual(watcher.of(frame)!.decider, {
      by: "another rule",
      words: "Drop packets whose source address is not of the workload",
    });
    equal(watcher.of(frame)!.hook, "PREROUTING");
  });
  await t.step("ctl drops: names, reasons and the rule, for people", async () => {
    const { world } = net, env = { TORTIE_RUN_DIR: `${world.dir}/run`, ETCD_ENDPOINTS: world.etcd.endpoint };
    const words = ["env", ...Object.entries(env).map(([k, v]) => `${k}=${v}`), `${world.dir}/bin/tortie`];
    const shown = world.host.runOk("env", [...words.slice(1), "ctl", "watch", "drops", "--for", "4s"]);
    let text: string | undefined;
    shown.then((all) => text = all, () => text = "");
    while (text === undefined) {
      await prober.measure([one("left > host tcp 81 v4"), one("left > host tcp 82 v4")], () => text !== undefined, 200);
    }
    text = await shown;
    match(
      text,
      /10\.99\.1\.2 -> host alder \(10\.99\.1\.1\) TCP 81 SYN: DENIED on alder, ingress of HostEndpoint:h0 \(lan0\)\n {3}decided in tier default by rule 0 of GlobalNetworkPolicy:default\.p\n/,
    );
    match(
      text,
      /TCP 82 SYN: DENIED[^\n]*\n {3}decided by the end of tier default: [^\n]*\n {5}passed over: GlobalNetworkPolicy:default\.p rule 0: destination port 82 is not in 81\n/,
    );
  });
  await t.step("a flood is counted, not told packet by packet, and costs the agent no more than that", async () => {
    await using watcher = new Watcher(net);
    await watcher.watching();
    const flood = Array.from({ length: 2_000 }, () => one("left > host tcp 83 v4"));
    await prober.measure(flood, () => true, 0);
    await wait("the flood", () => watcher.of(flood[0]!.frame));
    const lines = watcher.reports.filter((r) => r.is === "drop"), packets = lines.reduce((n, d) => n + d.packets, 0);
    ok(packets < 1_000 && lines.length < 200, `${packets} packets in ${lines.length} lines`);
  });
  await t.step("two watch at once, and one who is killed takes no rules away from the other", async () => {
    await using first = new Watcher(net);
    await first.watching();
    {
      await using second = new Watcher(net);
      await second.watching();
    }
    await prober.measure([one("left > host udp 84 v4")], () => true, 0);
    await wait("the drop", () => first.of(one("left > host udp 84 v4").frame));
  });
  await t.step("an agent that was killed while it was watched takes the rules away when it starts", async () => {
    const watcher = new Watcher(net);
    await watcher.watching();
    ok((await tellingRules(net)).length > 0);
    await net.world.stop("SIGKILL");
    await watcher[Symbol.asyncDispose]().catch(() => {}); // its connection broke
    await net.world.start();
    await noneLeft(net);
    deepEqual(await ownRules(net), atRest, "rules and their hashes are what they were");
  });
  await t.step("a group that another program listens to is said to be taken", async () => {
    const stop = new AbortController();
    using netns = openNetns(net.world.host.path);
    const other = loggedPackets(stop.signal, { group: dropGroup, netns });
    await other.next();
    const { status, body } = await net.world.get("/v1/drops");
    equal(status, 503);
    match((body as { error: string }).error, /another program listens to NFLOG group/);
    stop.abort();
    await other.return(undefined);
    deepEqual(await tellingRules(net), []);
  });
});
