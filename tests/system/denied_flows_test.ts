import { deepEqual, equal, ok } from "node:assert/strict";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const config = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};
const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };
const ports = [7000, 7001] as const;

const echo = `for (const port of ${JSON.stringify(ports)}) (async () => {
  for await (const c of Deno.listen({ port })) c.readable.pipeTo(c.writable).catch(() => {});
})(); console.log("ready");`;
/** Sends a letter each 20 ms on one connection a port, and says how many came back on which. */
const client = (ip: string) =>
  `const seen = {}; for (const port of ${JSON.stringify(ports)}) (async () => {
  const c = await Deno.connect({ hostname: "${ip}", port }); seen[port] = 0;
  setInterval(() => c.write(new Uint8Array([120])).catch(() => {}), 20);
  for await (const b of c.readable) { seen[port] += b.length; console.log(JSON.stringify(seen)); }
})();`;

/** A program in a namespace, with the last line that it wrote. */
class Talker implements AsyncDisposable {
  #last = "";
  readonly #child: Deno.ChildProcess;
  readonly #read: Promise<void>;

  constructor(at: Namespace, program: string) {
    const args = ["--pdeathsig", "KILL", "--", "nsenter", `--net=${at.path}`, Deno.execPath(), "eval", program];
    this.#child = new Deno.Command("setpriv", { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
    this.#read = this.#follow();
  }

  async #follow(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#last = text.trimEnd().split("\n").at(-1)!;
    }
  }

  get last(): string {
    return this.#last;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#read;
  }
}

const counts = (talker: Talker): Record<number, number> => (talker.last === "" ? {} : JSON.parse(talker.last));

/** Waits until ten more letters came back on a port. */
async function goesOn(talker: Talker, port: number = ports[1]): Promise<void> {
  const before = counts(talker)[port] ?? 0;
  await wait("the allowed connection to go on", () => (counts(talker)[port] ?? 0) >= before + 10);
}

async function addPod(world: AgentWorld, containerId: string): Promise<{ pod: Namespace; ip: string }> {
  const pod = await world.pod();
  const { code, stdout, json } = await world.call({ command: "ADD", containerId, netns: pod.path, config });
  equal(code, 0, stdout + world.log().slice(-1_000));
  return { pod, ip: (json as { ips: { address: string }[] }).ips[0]!.address.split("/")[0]! };
}

const policy = (world: AgentWorld, allowed: number[]) =>
  world.put({
    kind: "GlobalNetworkPolicy",
    metadata: { name: "only", ...named },
    spec: {
      ...{ tier: "default", order: 10, selector: "all()", types: ["Ingress"] },
      ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: allowed } }],
    },
  });
/** In whichever variant of iptables the agent writes them. */
const rules = async (world: AgentWorld) =>
  (await Promise.all(["legacy", "nft"].map((v) => world.host.runOk(`iptables-${v}-save`, ["-t", "filter"])))).join("");

const isTracked = async (world: AgentWorld, port: number) =>
  new RegExp(`ESTABLISHED .* dport=${port} `).test(await world.host.runOk("conntrack", ["-L", "-p", "tcp"]));

Deno.test("an established flow that a new policy denies goes on as with Calico, and ends where that is asked for", async () => {
  await using world = await makeAgentWorld("st");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.90.0.0/20", blockSize: 28 }]);
  await world.put({
    kind: "Tier",
    metadata: { name: "default", ...named },
    spec: { order: 1e6, defaultAction: "Deny" },
  });
  await world.start();
  await policy(world, [...ports]);
  const [a, b] = [await addPod(world, "c1"), await addPod(world, "c2")];
  await using server = new Talker(b.pod, echo);
  await wait("the server", () => server.last === "ready");
  await using talker = new Talker(a.pod, client(b.ip));
  await wait("both connections", () => ports.every((port) => (counts(talker)[port] ?? 0) > 5));

  await wait("the rule to come", async () => (await rules(world)).includes("7000"));
  await policy(world, [7001]);
  await wait("the rule to go", async () => !(await rules(world)).includes("7000"));
  const before = counts(talker)[7000]!;
  await goesOn(talker);
  ok(counts(talker)[7000]! > before, "what was allowed once goes on");

  const annotations = { "config.projectcalico.org/TortieCutDeniedFlows": "true" };
  await world.put({ kind: "FelixConfiguration", metadata: { name: "default", ...named, annotations }, spec: {} });
  await wait("the flow to end", async () => !await isTracked(world, 7000));
  const then = counts(talker)[7000]!;
  await goesOn(talker);
  deepEqual(counts(talker)[7000], then, "nothing more comes back on the denied connection");

  await policy(world, [7000]);
  await wait("the first one to go on", () => counts(talker)[7000]! > then + 5);
  await wait("the other to end", async () => !await isTracked(world, 7001));
  const last = counts(talker)[7001]!;
  await goesOn(talker, 7000);
  deepEqual(counts(talker)[7001], last, "nothing more comes back on the other one");
});
