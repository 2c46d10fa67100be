/** What nobody should write into the datastore, one thing after another, under one agent that goes on protecting. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const config = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};
const root = "/calico/resources/v3/projectcalico.org";
const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };
const allowedPort = 7001, deniedPort = 7000;

/** One world with two pods: `client` may reach `server` at one port. */
class BadInput implements AsyncDisposable {
  #markers = 0;
  private constructor(
    readonly world: AgentWorld,
    readonly client: Namespace,
    readonly server: Namespace,
    readonly serverIp: string,
    readonly listener: Deno.ChildProcess,
  ) {}

  static async start(world: AgentWorld): Promise<BadInput> {
    await putCluster(world, "alder", [{ name: "p4", cidr: "10.91.0.0/20", blockSize: 28 }]);
    await world.put({
      kind: "Tier",
      metadata: { name: "default", ...named },
      spec: { order: 1e6, defaultAction: "Deny" },
    });
    await putPolicy(world, "base", {
      order: 1_000,
      ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [allowedPort] } }],
    });
    await world.start({
      env: {
        FELIX_PROMETHEUSMETRICSENABLED: "true",
        FELIX_PROMETHEUSMETRICSPORT: "9091",
        FELIX_IPTABLESBACKEND: "legacy",
      },
    });
    const [client, server] = [await world.pod(), await world.pod()];
    const add = async (containerId: string, netns: string) => {
      const { code, stdout, json } = await world.call({ command: "ADD", containerId, netns, config });
      equal(code, 0, stdout);
      return (json as { ips: { address: string }[] }).ips[0]!.address.split("/")[0]!;
    };
    await add("c1", client.path);
    const ip = await add("c2", server.path);
    const program = `for (const port of [${allowedPort}, ${deniedPort}]) Deno.listen({ port });
      console.log("ready"); setInterval(() => {}, 1e6);`;
    const args = ["--pdeathsig", "KILL", "--", "nsenter", `--net=${server.path}`, Deno.execPath(), "eval", program];
    const listener = new Deno.Command("setpriv", { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
    const bad = new BadInput(world, client, server, ip, listener);
    await wait("the server", () => bad.reaches(allowedPort));
    return bad;
  }

  /** The client gets a connection within 300 ms. */
  async reaches(port: number): Promise<boolean> {
    const script = `exec 3<>/dev/tcp/${this.serverIp}/${port}`;
    return (await this.client.run("timeout", ["0.3", "bash", "-c", script])).code === 0;
  }

  /** Log, status and metric name the object with a reason that matches. */
  async isNamed(object: string, why: RegExp): Promise<void> {
    const status = async () => {
      const { policy } = (await this.world.get("/v1/status")).body as {
        policy: { refused: { object: string; why: string }[] };
      };
      return policy.refused;
    };
    await wait(
      `${object} to be refused`,
      async () => (await status()).some((r) => r.object === object && why.test(r.why)),
    )
      .catch(async (error) => {
        throw new Error(`${error.message}\n${JSON.stringify(await status())}\n${this.world.log().slice(-2_000)}`);
      });
    const lines = this.world.log().split("\n").filter((l) => l.startsWith("{")).map((l) => JSON.parse(l));
    ok(lines.some((l) => l.object === object && why.test(l.why)), `the log does not name ${object}`);
    const metrics = await this.world.host.runOk("curl", ["-sS", "http://127.0.0.1:9091/metrics"]);
    const line = metrics.split("\n").find((l) => l.startsWith("tortie_object_refused{") && l.includes(`"${object}"`));
    ok(line, `no metric names ${object}`);
    match(metrics, /^tortie_objects_refused [1-9]/m);
  }

  async isRefusedNoMore(object: string): Promise<void> {
    await wait(`${object} to be in force`, async () => {
      const { policy } = (await this.world.get("/v1/status")).body as { policy: { refused: { object: string }[] } };
      return policy.refused.every((r) => r.object !== object);
    }, { deadlineMs: 30_000 });
  }

  /** What was allowed passes, what was denied does not, and a new policy gets into the kernel. */
  async stillProtects(): Promise<void> {
    const port = 8_000 + ++this.#markers;
    await putPolicy(this.world, "marker", {
      order: 2_000,
      ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [port] } }],
    });
    await this.hasRule(new RegExp(`--dports? ${port} `));
    deepEqual([await this.reaches(allowedPort), await this.reaches(deniedPort)], [true, false]);
  }

  async hasRule(pattern: RegExp): Promise<void> {
    const is = async () => pattern.test(await this.world.host.runOk("iptables-legacy-save", ["-t", "filter"]));
    await wait(`a rule ${pattern}`, is, { deadlineMs: 30_000, everyMs: 50 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.listener.kill("SIGKILL");
    await this.listener.status;
  }
}

const putPolicy = (world: AgentWorld, name: string, spec: Record<string, unknown>) =>
  world.put({
    kind: "GlobalNetworkPolicy",
    metadata: { name, ...named },
    spec: { tier: "default", selector: "all()", types: ["Ingress"], ...spec },
  });
const remove = (world: AgentWorld, path: string) => world.etcd.etcdctl("del", `${root}/${path}`);

/** A value that is too long for an argument. */
async function putLong(world: AgentWorld, path: string, resource: Record<string, unknown>): Promise<void> {
  const value = JSON.stringify({ apiVersion: "projectcalico.org/v3", ...resource });
  await world.host.runOk("etcdctl", ["--endpoints", world.etcd.endpoint, "put", `${root}/${path}`], { stdin: value });
}

/** `count` networks, none of them the pods'. */
const networks = (count: number, from: number) =>
  Array.from(
    { length: count },
    (_, i) => `${20 + ((from + i) >> 16)}.${((from + i) >> 8) & 255}.${(from + i) & 255}.0/24`,
  );

Deno.test("whatever is written, the host stays protected, the rest in sync, and log, status and metric say what is wrong", async (t) => {
  await using world = await makeAgentWorld("st");
  await using bad = await BadInput.start(world);
  const gnp = (name: string) => `GlobalNetworkPolicy:${name}`;

  await t.step("an unparsable selector", async () => {
    await putPolicy(world, "selector", { selector: "app == == 'x'", order: 5_000, ingress: [{ action: "Allow" }] });
    await bad.isNamed(gnp("selector"), /spec\.selector/);
    await bad.stillProtects();
    await remove(world, "globalnetworkpolicies/selector");
    await bad.isRefusedNoMore(gnp("selector"));
  });

  await t.step("an unknown action, in a policy that was good: its last good version holds", async () => {
    const deny = { action: "Deny", protocol: "TCP", destination: { ports: [deniedPort] } };
    const allow = { action: "Allow", protocol: "TCP", destination: { ports: [deniedPort, 7005] } };
    await putPolicy(world, "action", { order: 10, ingress: [deny, allow] });
    await bad.hasRule(/7005/);
    await putPolicy(world, "action", { order: 10, ingress: [{ ...deny, action: "Refuse" }, allow] });
    await bad.isNamed(gnp("action"), /ingress\[0\].*Refuse/);
    await bad.stillProtects();
    await remove(world, "globalnetworkpolicies/action");
  });

  await t.step("ports out of range", async () => {
    const ports = { action: "Allow", protocol: "TCP", destination: { ports: [70000] } };
    await putPolicy(world, "ports", { order: 10, ingress: [ports, { ...ports, destination: { ports: ["9:1"] } }] });
    await bad.isNamed(gnp("ports"), /ingress\[0\]\.destination\.ports\[0\]/);
    await bad.stillProtects();
    await remove(world, "globalnetworkpolicies/ports");
    // A Deny that was never readable denies: not less than it was meant to.
    await putPolicy(world, "ports", { order: 10, ingress: [{ ...ports, action: "Deny" }] });
    await bad.isNamed(gnp("ports"), /ingress\[0\]\.destination\.ports\[0\].*deny/);
    await wait("the closed policy", async () => !await bad.reaches(allowedPort));
    await remove(world, "globalnetworkpolicies/ports");
    await bad.isRefusedNoMore(gnp("ports"));
    await wait("the policy to be gone", () => bad.reaches(allowedPort));
  });

  await t.step("names at the limits of their lengths", async () => {
    const tier = "t".repeat(253), name = "p".repeat(253), port = 7100;
    await world.put({ kind: "Tier", metadata: { name: tier, ...named }, spec: { order: 5, defaultAction: "Pass" } });
    const rule = { action: "Pass", protocol: "TCP", destination: { ports: [port] } };
    await putPolicy(world, name, { tier, order: 1, ingress: [rule] });
    const namespace = "n".repeat(63), set = "s".repeat(253);
    await world.put({
      kind: "NetworkSet",
      metadata: { name: set, namespace, ...named },
      spec: { nets: ["203.0.113.0/24"] },
    });
    await bad.hasRule(/7100/);
    await bad.stillProtects();
    for (const key of [`globalnetworkpolicies/${name}`, `networksets/${namespace}/${set}`]) await remove(world, key);
    await remove(world, `tiers/${tier}`);
  });

  await t.step("a policy with 10,000 rules", async () => {
    const ingress = Array.from({ length: 10_000 }, (_, i) => ({
      ...{ action: "Deny", protocol: "TCP", source: { nets: [networks(1, i)[0]!] } },
      destination: { ports: [9_000] },
    }));
    await putLong(world, "globalnetworkpolicies/rules", {
      kind: "GlobalNetworkPolicy",
      metadata: { name: "rules", ...named },
      spec: { tier: "default", selector: "all()", types: ["Ingress"], order: 20, ingress },
    });
    await bad.hasRule(/20\.39\.15\.0\/24/);
    await bad.stillProtects();
    await remove(world, "globalnetworkpolicies/rules");
    await bad.stillProtects();
  });

  await t.step("100,000 networks, and a set beyond MaxIpsetSize until that is raised", async () => {
    await world.put({
      kind: "FelixConfiguration",
      metadata: { name: "default", ...named },
      spec: { maxIpsetSize: 60_000 },
    });
    const set = (name: string, nets: string[]) =>
      putLong(world, `globalnetworksets/${name}`, {
        ...{ kind: "GlobalNetworkSet", metadata: { name, labels: { many: "yes" }, ...named }, spec: { nets } },
      });
    await set("many1", networks(50_000, 0));
    const source = { selector: "many == 'yes'" };
    await putPolicy(world, "many", { order: 30, ingress: [{ action: "Deny", source, protocol: "UDP" }] });
    const members = async () => (await world.host.runOk("ipset", ["list", "-t"])).match(/Number of entries: 50000/);
    await wait("50,000 members", async () => await members() !== null, { deadlineMs: 30_000 });
    await set("many2", networks(50_000, 50_000));
    await bad.isNamed(gnp("many"), /100000.*60000/);
    await bad.stillProtects();
    await world.put({
      kind: "FelixConfiguration",
      metadata: { name: "default", ...named },
      spec: { maxIpsetSize: 200_000 },
    });
    await bad.isRefusedNoMore(gnp("many"));
    match(await world.host.runOk("ipset", ["list", "-t"]), /Number of entries: 100000/);
    await bad.stillProtects();
    await remove(world, "globalnetworkpolicies/many");
    for (const name of ["many1", "many2"]) await remove(world, `globalnetworksets/${name}`);
  });

  await t.step("endpoints without an interface, and two that claim one interface or address", async () => {
    const endpoint = (id: string, interfaceName: string, ip: string) =>
      world.put({
        kind: "WorkloadEndpoint",
        metadata: { name: `alder-k8s-${id}-eth0`, namespace: "shop", ...named },
        spec: {
          ...{ orchestrator: "k8s", node: "alder", pod: id, endpoint: "eth0", containerID: id },
          ...{ ipNetworks: [`${ip}/32`], interfaceName, profiles: ["net-x"] },
        },
      });
    const links = await world.host.ipJson("link show") as { ifname: string }[];
    const taken = links.find(({ ifname }) => ifname.startsWith("cali"))!.ifname;
    const ofServer = (await world.host.ip(`route get ${bad.serverIp}`)).match(/dev (\S+)/)![1]!;
    ok(taken && ofServer);
    await endpoint("absent", "caliabsent", "10.91.15.1");
    await endpoint("thief", ofServer, "10.91.15.2");
    await endpoint("twin", "calitwin", bad.serverIp);
    const wep = (id: string) => `WorkloadEndpoint:shop/alder-k8s-${id}-eth0`;
    await bad.isNamed(wep("thief"), new RegExp(`interface ${ofServer} belongs to`));
    await bad.isNamed(wep("twin"), new RegExp(`address ${bad.serverIp}/32 is claimed by`));
    await bad.isNamed(wep("absent"), /interface caliabsent does not exist/);
    await bad.stillProtects();
    for (const id of ["absent", "thief", "twin"]) await remove(world, `workloadendpoints/shop/alder-k8s-${id}-eth0`);
    await bad.isRefusedNoMore(wep("absent"));
    await bad.stillProtects();
  });

  await t.step("tiers that are renamed in a circle", async () => {
    const tier = (name: string, order: number) =>
      world.put({ kind: "Tier", metadata: { name, ...named }, spec: { order, defaultAction: "Pass" } });
    const deny = [{ action: "Deny", protocol: "TCP", destination: { ports: [deniedPort] } }, { action: "Pass" }];
    await tier("a", 1);
    await putPolicy(world, "circle", { tier: "a", order: 1, ingress: deny });
    for (const [from, to] of [["a", "b"], ["b", "c"], ["c", "a"]] as const) {
      await remove(world, `tiers/${from}`);
      await bad.isNamed(`Tier:${from}`, /no such tier.*circle/);
      await putPolicy(world, "circle", { tier: to, order: 1, ingress: deny });
      await tier(to, 1);
      await bad.isRefusedNoMore(`Tier:${from}`);
      await bad.stillProtects();
    }
  });

  await t.step("values that are no policy at all", async () => {
    for (const value of ["{", "[]", "7", '{"spec":"text"}']) {
      await world.etcd.etcdctl("put", `${root}/globalnetworkpolicies/base`, value);
      await bad.isNamed(gnp("base"), /./);
      await bad.stillProtects();
    }
    const { policy } = (await world.get("/v1/status")).body as { policy: { failed: unknown[] } };
    deepEqual(policy.failed, []);
  });
});
