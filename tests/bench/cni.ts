import { cniBinDir } from "../lab/containerd.ts";
import { Etcd, startEtcd } from "../lab/etcd.ts";
import type { Host } from "../lab/host.ts";
import { makeHosts } from "../lab/hosts.ts";
import { binary, pluginConfig, startTortie } from "../lab/tortie.ts";
import type { Plan, Report } from "./driver.ts";
import { between, etcdRequests, perCall, Requests } from "./etcd_requests.ts";
import { ms, percentile, table } from "./table.ts";

/** Sequential calls, then how many at once. */
const sequential = 100;
const parallel = [50, 200];

/** A plugin under measurement. */
interface Subject {
  name: string;
  program: string;
  config: unknown;
}

/** A measured series of one command. */
interface Series {
  report: Report;
  requests: Requests;
}

/**
 * ADD and DEL by the compiled binary against a running agent and an etcd on loopback, beside `ptp` with `host-local` of
 * the reference plugins, in one run on one host. Whole processes, from fork to exit, as a runtime waits for them.
 */
export async function bench(_args: string[]): Promise<number> {
  await using lab = await makeHosts(1, { prefix: "bench" });
  const host = lab.hosts[0]!;
  await using etcd = await startEtcd({ netns: host.netns });
  const options = { etcdEndpoint: etcd.endpoint };
  await startTortie(host, options);
  const subjects: [Subject, Subject] = [
    { name: "tortie", program: `${cniBinDir}/calico`, config: pluginConfig(host, options) },
    { name: "ptp", program: "/usr/lib/cni/ptp", config: reference },
  ];
  console.log(`binary ${((await Deno.stat(binary)).size / 1e6).toFixed(1)} MB; ${await machine()}`);
  const rows = [["calls, ms", "tortie p50", "p90", "p99", "total", "ptp p50", "p90", "p99", "total", "ratio p50"]];
  const failures: string[] = [], notes: string[] = [];
  await onceEach(host, etcd, subjects);
  for (const [count, atOnce] of [[sequential, 1], ...parallel.map((n) => [n, n])] as [number, number][]) {
    const prefix = `b${atOnce}`;
    await makeNamespaces(host, prefix, count);
    for (const command of ["VERSION", "ADD", "DEL"] as const) {
      const label = atOnce === 1 ? `${count} ${command} one by one` : `${count} ${command} at once`;
      const [ours, theirs] = await inTurn(host, etcd, subjects, { command, prefix, count, parallel: atOnce });
      rows.push([label, ...cells(ours), ...cells(theirs), ratio(ours, theirs)]);
      if (command !== "VERSION") notes.push(`${label}: ${perCall(ours.requests, count)} etcd requests a call`);
      for (const { report } of [ours, theirs]) failures.push(...report.failures);
      const distinct = new Set(ours.report.addresses).size;
      if (distinct !== ours.report.addresses.length) failures.push(`${label}: an address was given twice`);
    }
    failures.push(...(await leaks(etcd)).map((l) => `left after ${count} DEL: ${l}`));
  }
  console.log(`\n${table(rows)}\n\n${notes.join("\n")}`);
  for (const f of failures.slice(0, 10)) console.log(`FAILED ${f}`);
  console.log(`\n${failures.length} failures`);
  return failures.length > 0 ? 1 : 0;
}

const reference = {
  ...{ cniVersion: "1.0.0", name: "reference", type: "ptp" },
  ipam: { type: "host-local", subnet: "10.99.0.0/16", routes: [{ dst: "0.0.0.0/0" }] },
};

/** First calls are slower for both (cold files, first block); they are not what is measured. */
async function onceEach(host: Host, etcd: Etcd, subjects: [Subject, Subject]): Promise<void> {
  await makeNamespaces(host, "warm", 3);
  for (const command of ["ADD", "DEL"] as const) {
    const series = await inTurn(host, etcd, subjects, { command, prefix: "warm", count: 3, parallel: 1 });
    const failure = series.flatMap((s) => s.report.failures)[0];
    if (failure) throw new Error(`the first calls failed: ${failure}`);
  }
}

/** The same calls by both, each in namespaces of its own. */
async function inTurn(
  host: Host,
  etcd: Etcd,
  subjects: [Subject, Subject],
  what: Pick<Plan, "command" | "prefix" | "count" | "parallel">,
): Promise<[Series, Series]> {
  const run = async ({ name, program, config }: Subject): Promise<Series> => {
    const before = await etcdRequests(host.netns, etcd.endpoint);
    const report = await drive(host, {
      ...what,
      program,
      config,
      path: "/usr/lib/cni",
      prefix: `${name}-${what.prefix}`,
    });
    return { report, requests: between(before, await etcdRequests(host.netns, etcd.endpoint)) };
  };
  return [await run(subjects[0]), await run(subjects[1])];
}

async function drive(host: Host, plan: Plan): Promise<Report> {
  const driver = new URL("./driver.ts", import.meta.url).pathname;
  const words = ["run", "-A", "--no-check", "--no-config", driver];
  return JSON.parse(
    await host.runOk(Deno.execPath(), words, {
      stdin: JSON.stringify(plan),
      timeoutMs: 300_000,
      maxOutputBytes: 1 << 26,
    }),
  );
}

async function makeNamespaces(host: Host, prefix: string, count: number): Promise<void> {
  const names = ["tortie", "ptp"].flatMap((s) => Array.from({ length: count }, (_, i) => `${s}-${prefix}-${i}`));
  const script = names.map((n) => `netns add ${n}`).join("\n");
  await host.runOk("ip", ["-batch", "-"], { stdin: script, timeoutMs: 120_000 });
}

const cells = ({ report }: Series) => [
  ...[0.5, 0.9, 0.99].map((p) => ms(percentile(report.ms, p))),
  `${(report.totalMs / 1000).toFixed(2)} s`,
];

const ratio = (ours: Series, theirs: Series) =>
  (percentile(ours.report.ms, 0.5) / percentile(theirs.report.ms, 0.5)).toFixed(2);

/** What etcd still holds of endpoints and given addresses; read as JSON, by nobody's codec. */
async function leaks(etcd: Etcd): Promise<string[]> {
  const left: string[] = [];
  for (const [key, value] of await etcd.dump("/calico/")) {
    if (/\/workloadendpoints\/|\/ipam\/v2\/handle\//.test(key)) left.push(key);
    if (!key.startsWith("/calico/ipam/v2/assignment/")) continue;
    const used = (JSON.parse(value).allocations as (number | null)[]).filter((a) => a !== null).length;
    if (used > 0) left.push(`${key}: ${used} addresses`);
  }
  return left;
}

async function machine(): Promise<string> {
  const model = /model name\s*: (.*)/.exec(await Deno.readTextFile("/proc/cpuinfo"))?.[1] ?? Deno.build.arch;
  const load = Deno.loadavg()[0]!, cores = navigator.hardwareConcurrency;
  const busy = load > cores / 2 ? `; BUSY (load ${load.toFixed(1)}): only the ratios say something` : "";
  return `${cores} cores of ${model}, kernel ${Deno.osRelease()}, etcd on loopback with data in memory${busy}`;
}
