/**
 * Runs inside a bench's host: calls CNI plugins as a runtime does and measures whole processes. Reads one Plan as JSON
 * from standard input, writes one Report.
 */

/** Calls to make: attachment i is in the namespace `<prefix>-i`; its container's id is made from that name. */
export interface Plan {
  program: string;
  /** VERSION does nothing: what a process costs. */
  command: "VERSION" | "ADD" | "DEL";
  /** Network configuration, one plugin. */
  config: unknown;
  /** Folder of plugins that the plugin may call. */
  path: string;
  prefix: string;
  count: number;
  /** Calls that run at once. */
  parallel: number;
  /** Value of CNI_ARGS for attachment i; `%d` stands for i. */
  args?: string;
}

/** What came of it. */
export interface Report {
  /** Milliseconds of each call that succeeded, from fork to exit, sorted. */
  ms: number[];
  /** From the first fork to the last exit. */
  totalMs: number;
  /** First addresses of the results. */
  addresses: string[];
  failures: string[];
}

async function call(plan: Plan, i: number, report: Report): Promise<void> {
  const name = `${plan.prefix}-${i}`, id = await containerId(name);
  const start = performance.now();
  const child = new Deno.Command(plan.program, {
    env: {
      ...{ CNI_COMMAND: plan.command, CNI_CONTAINERID: id, CNI_NETNS: `/run/netns/${name}` },
      ...{ CNI_IFNAME: "eth0", CNI_PATH: plan.path, CNI_ARGS: (plan.args ?? "").replaceAll("%d", String(i)) },
    },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await feed(child.stdin, JSON.stringify(plan.config));
  const { code, stdout, stderr } = await child.output();
  const ms = performance.now() - start;
  const text = new TextDecoder().decode(stdout.length > 0 ? stdout : stderr);
  if (code !== 0) return void report.failures.push(`${plan.command} ${name}: ${text.trim() || `exit code ${code}`}`);
  report.ms.push(ms);
  if (plan.command === "ADD") report.addresses.push(JSON.parse(text).ips[0].address);
}

/** A plugin may end without reading all of it. */
async function feed(stdin: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** 64 hex digits, as runtimes make them; the same for ADD and DEL. */
async function containerId(name: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name))).toHex();
}

/** Runs the plan's calls, at most `parallel` at once. */
async function drive(plan: Plan): Promise<Report> {
  const report: Report = { ms: [], totalMs: 0, addresses: [], failures: [] };
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < plan.count; i = next++) await call(plan, i, report);
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: plan.parallel }, worker));
  report.totalMs = performance.now() - start;
  report.ms.sort((a, b) => a - b);
  return report;
}

if (import.meta.main) {
  const plan = JSON.parse(await new Response(Deno.stdin.readable).text()) as Plan;
  console.log(JSON.stringify(await drive(plan)));
}
