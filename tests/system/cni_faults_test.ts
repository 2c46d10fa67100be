import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type AgentWorld, makeAgentWorld, type PluginCall, type PluginResult, putCluster } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";
import { settled, stateOf } from "./_cni_state.ts";

const base = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};
const pool = { name: "p4", cidr: "10.88.0.0/20", blockSize: 28 };

const codeOf = (r: PluginResult): number => (r.json as { code: number }).code;
const textOf = (r: PluginResult): string => `${r.json.msg}; ${r.json.details}`;

async function good(world: AgentWorld, call: PluginCall): Promise<PluginResult> {
  const result = await world.call(call);
  equal(result.code, 0, `${call.command}: ${result.stdout} ${result.stderr}\n${world.log().slice(-1500)}`);
  return result;
}

/** The error object is whole: version, a code, a sentence. */
function isErrorObject(result: PluginResult, what: string): void {
  equal(result.code, 1, `${what}: ${result.stdout}`);
  ok(codeOf(result) > 0 && codeOf(result) !== 999, `${what}: ${result.stdout}`);
  ok(String(result.json.msg).length > 5 && typeof result.json.cniVersion === "string", `${what}: ${result.stdout}`);
}

/** Milliseconds that a call took beyond what the plugin needs to start and end on this machine now. */
async function beyondStart(world: AgentWorld, call: PluginCall): Promise<{ result: PluginResult; ms: number }> {
  const [a, b] = [await bare(world), await bare(world)];
  const result = await world.call(call);
  return { result, ms: result.ms - Math.min(a, b) };
}

const bare = async (world: AgentWorld) => (await world.call({ command: "VERSION", config: base })).ms;

Deno.test("etcd is away: ADD says try again, DEL succeeds and reaches etcd when it is back", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [pool]);
  await world.start();
  const pods = [await world.pod(), await world.pod()] as const;
  const at = (containerId: string, i = 0) => ({ containerId, netns: pods[i]!.path, config: base });

  for (const fault of ["killed", "frozen"] as const) {
    await t.step(`etcd is ${fault}`, async () => {
      await good(world, { command: "ADD", ...at("e1") });
      if (fault === "killed") await world.etcd.kill();
      else world.etcd.stop();
      const add = await beyondStart(world, { command: "ADD", ...at("e2", 1) });
      equal(codeOf(add.result), 11, add.result.stdout);
      ok(add.ms <= 2_000, `ADD took ${add.ms} ms`);
      const del = await beyondStart(world, { command: "DEL", ...at("e1") });
      equal(del.result.code, 0, del.result.stdout);
      ok(del.ms <= 1_500, `DEL took ${del.ms} ms`);
      equal((await pods[0].ipJson("link show")).length, 1, "the pod's interface is gone");
      equal((await pods[1].ipJson("link show")).length, 1, "the failed ADD left no interface");
      await good(world, { command: "DEL", ...at("e2", 1) });
      if (fault === "killed") {
        match(textOf(await world.call({ command: "STATUS", config: base })), /etcd|sync/);
        await world.etcd.restart();
      } else world.etcd.cont();
      await settled(world, 0, 10_000);
    });
  }

  await t.step("an agent that starts while etcd is away serves DEL, and ADD when etcd is back", async () => {
    await good(world, { command: "ADD", ...at("e3") });
    await world.stop("SIGKILL");
    await world.etcd.kill();
    await world.start({ doNotWait: true });
    await wait("the agent's socket", async () => (await world.get("/v1/status")).status === 503);
    equal(codeOf(await world.call({ command: "ADD", ...at("e4", 1) })), 11);
    await good(world, { command: "DEL", ...at("e3") });
    equal((await pods[0].ipJson("link show")).length, 1);
    await world.etcd.restart();
    await settled(world, 0);
    await wait("the agent to be in sync", async () => (await world.get("/v1/status")).status === 200);
    await good(world, { command: "ADD", ...at("e4", 1) });
    await good(world, { command: "DEL", ...at("e4", 1) });
    await settled(world, 0);
  });

  await t.step("a frozen agent: ADD and DEL do not hang", async () => {
    await good(world, { command: "ADD", ...at("e5") });
    const agent = await agentProcess(world);
    Deno.kill(agent, "SIGSTOP");
    try {
      const { result } = await beyondStart(world, { command: "DEL", ...at("e5") });
      equal(result.code, 0, result.stdout);
      equal((await pods[0].ipJson("link show")).length, 1);
    } finally {
      Deno.kill(agent, "SIGCONT");
    }
    await settled(world, 0);
  });

  await t.step("an ADD that its runtime killed does not come true after its DEL", async () => {
    const config = { ...base, readiness_gates: ["http://127.0.0.1:18099/"] };
    await rejects(world.call({ command: "ADD", ...at("e6"), config, timeoutMs: 1_000 }), /1000 ms/);
    await good(world, { command: "DEL", ...at("e6") });
    const serve = "Deno.serve({ port: 18099, hostname: '127.0.0.1', onListen() {} }, () => new Response('open'))";
    const words = [`--net=${world.host.path}`, Deno.execPath(), "eval", serve];
    await using gate = new Deno.Command("nsenter", { args: words, stdout: "null", stderr: "null" }).spawn();
    await wait("the call to end", async () => ((await world.get("/v1/status")).body as { calls: number }).calls === 0);
    await settled(world, 0);
    equal((await pods[0].ipJson("link show")).length, 1);
    await good(world, { command: "ADD", ...at("e7"), config });
    await good(world, { command: "DEL", ...at("e7"), config });
    gate.kill();
  });
});

/** The agent itself, below the programs that entered its namespaces. */
async function agentProcess(world: AgentWorld): Promise<number> {
  let pid = world.pid;
  for (;;) {
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    if (children.trim() === "") return pid;
    pid = Number(children.trim().split(" ")[0]);
  }
}

Deno.test("etcd refuses the agent", async (t) => {
  await t.step("wrong password: ADD fails with a reason, DEL succeeds and waits", async () => {
    await using world = await makeAgentWorld("h5", { auth: true });
    await putCluster(world, "alder", [pool]);
    await world.start({ env: { ETCD_PASSWORD: "wrong" }, doNotWait: true });
    await wait("the agent's socket", async () => (await world.get("/v1/status")).status === 503);
    const pod = await world.pod();
    const call = { containerId: "u1", netns: pod.path, config: base };
    const add = await world.call({ command: "ADD", ...call });
    isErrorObject(add, "ADD");
    match(textOf(add), /password|authenti|authori/i);
    await good(world, { command: "DEL", ...call });
    await world.stop();
    await world.start();
    await settled(world, 0);
  });

  await t.step("a certificate that nobody knows: ADD fails with a reason", async () => {
    await using world = await makeAgentWorld("h5", { tls: true });
    await putCluster(world, "alder", [pool]);
    await using other = await makeAgentWorld("h5", { tls: true });
    await world.start({ env: { ETCD_CA_CERT_FILE: other.etcd.tls!.caFile }, doNotWait: true });
    await wait("the agent's socket", async () => (await world.get("/v1/status")).status === 503);
    const pod = await world.pod();
    const add = await world.call({ command: "ADD", containerId: "u2", netns: pod.path, config: base });
    isErrorObject(add, "ADD");
    match(textOf(add), /certificate|TLS|issuer|trust/i);
    deepEqual((await stateOf(world)).links, []);
  });
});

Deno.test("bad input gives the error object and leaves nothing", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [{ name: "small", cidr: "10.88.0.0/30", blockSize: 30 }]);
  await world.start();
  const pod = await world.pod();
  const call = { containerId: "b1", netns: pod.path, config: base };
  const test = (name: string, work: () => Promise<void>) => t.step(name, work);

  await test("garbage on stdin", async () => {
    const texts = ["", "{", "[]", "null", '"x"', "\u0000\u0001", "{}", '{"name":7}', "{".repeat(100_000)];
    for (const config of texts) {
      for (const command of ["ADD", "DEL", "CHECK", "STATUS", "GC"]) {
        const result = await world.call({ command, ...call, config });
        isErrorObject(result, `${command} ${config.slice(0, 20)}`);
        ok([1, 6, 7].includes(codeOf(result)), result.stdout);
      }
    }
  });

  await test("members of the wrong type, each named", async () => {
    const wrong: [Record<string, unknown>, RegExp][] = [
      [{ mtu: "1500" }, /mtu/],
      [{ ipam: "calico-ipam" }, /ipam/],
      [{ ipam: { type: "calico-ipam", assign_ipv4: true } }, /assign_ipv4/],
      [{ ipam: { type: "calico-ipam", ipv4_pools: "p4" } }, /ipv4_pools/],
      [{ policy: [] }, /policy/],
      [{ feature_control: { floating_ips: "yes" } }, /floating_ips/],
      [{ readiness_gates: ["nonsense"] }, /readiness_gates/],
      [{ policy_setup_timeout_seconds: -1 }, /startup delay/],
      [{ device_type: "vlan" }, /device_type/],
      [{ datastore_type: "kubernetes" }, /datastore_type/],
      [{ ipam: {} }, /IPAM plugin/],
      [{ ipam: { type: "no-such-plugin" } }, /no-such-plugin/],
      [{ prevResult: 7 }, /prevResult|result cannot be read/],
      [{ cniVersion: "3.0.0" }, /incompatible/],
    ];
    for (const [members, text] of wrong) {
      const result = await world.call({ command: "ADD", ...call, config: { ...base, ...members } });
      isErrorObject(result, JSON.stringify(members));
      match(textOf(result), text);
    }
  });

  await test("missing and odd variables, each named", async () => {
    const odd: [Partial<PluginCall>, number, RegExp][] = [
      [{ unset: ["CNI_CONTAINERID"] }, 4, /CNI_CONTAINERID/],
      [{ unset: ["CNI_NETNS", "CNI_PATH", "CNI_IFNAME"] }, 4, /CNI_NETNS,CNI_IFNAME,CNI_PATH/],
      [{ command: "FROB" }, 4, /FROB/],
      [{ containerId: "../../etc" }, 4, /containerID/],
      [{ containerId: "a/b" }, 4, /containerID/],
      [{ ifName: "a/b" }, 4, /interface name/],
      [{ ifName: ".." }, 4, /interface name/],
      [{ ifName: "sixteen-letters-" }, 4, /too long/],
      [{ ifName: "a b" }, 4, /whitespace/],
      [{ args: "K8S_POD_NAME" }, 4, /invalid pair/],
      [{ args: "IP=1.2.3" }, 4, /invalid IP address/],
      [{ args: "IgnoreUnknown=perhaps" }, 4, /boolean/],
    ];
    for (const [change, code, text] of odd) {
      const result = await world.call({ command: "ADD", ...call, ...change });
      isErrorObject(result, JSON.stringify(change));
      deepEqual([codeOf(result), text.test(textOf(result))], [code, true], result.stdout);
    }
  });

  await test("a namespace that does not exist, the host's own, and a file that is none", async () => {
    const gone = await world.call({ command: "ADD", ...call, netns: "/run/netns/h5-never" });
    deepEqual([codeOf(gone), /CNI_NETNS/.test(textOf(gone))], [4, true]);
    await world.host.ip("link add h5keep type veth peer name h5keep2");
    for (const command of ["ADD", "DEL", "CHECK"]) {
      const own = await world.call({ command, ...call, ifName: "h5keep", netns: world.host.path });
      equal(codeOf(own), 8, own.stdout);
    }
    equal((await world.host.ipJson("link show h5keep")).length, 1, "the host's interface is still there");
    isErrorObject(await world.call({ command: "ADD", ...call, netns: "/etc/passwd" }), "a plain file");
    await settled(world, 0);
  });

  await test("a pool that is exhausted: nothing is left of the ADD that got none", async () => {
    const pods = await Promise.all([1, 2, 3, 4].map(() => world.pod()));
    for (const [i, p] of pods.entries()) {
      await good(world, { command: "ADD", containerId: `f${i}`, netns: p.path, config: base });
    }
    const full = await world.call({ command: "ADD", ...call });
    equal(codeOf(full), 101);
    equal(codeOf(await world.call({ command: "STATUS", config: base })), 50);
    await settled(world, 4);
    const both = { ...base, ipam: { type: "calico-ipam", assign_ipv6: "true" } };
    await good(world, { command: "DEL", containerId: "f0", netns: pods[0]!.path, config: base });
    isErrorObject(await world.call({ command: "ADD", ...call, config: both }), "dual stack without an IPv6 pool");
    await settled(world, 3);
    for (const [i, p] of pods.entries()) {
      await good(world, { command: "DEL", containerId: `f${i}`, netns: p.path, config: base });
    }
    await settled(world, 0);
  });

  await test("a pool whose JSON is broken is said to be so, and others go on", async () => {
    const key = "/calico/resources/v3/projectcalico.org/ippools/broken";
    await world.etcd.etcdctl("put", key, '{"kind":"IPPool","spec":{"cidr":');
    await good(world, { command: "ADD", ...call });
    await good(world, { command: "DEL", ...call });
    await world.etcd.etcdctl("del", "/calico/resources/v3/projectcalico.org/ippools/small");
    await wait(
      "the agent to see the pool go",
      async () => (await world.call({ command: "STATUS", config: base })).code !== 0,
    );
    const none = await world.call({ command: "ADD", ...call });
    isErrorObject(none, "no pool");
    match(textOf(none), /broken|pool/i);
    await world.etcd.etcdctl("del", key);
    await world.put({ kind: "IPPool", metadata: { name: "small" }, spec: { cidr: "10.88.0.0/30", blockSize: 30 } });
    await wait(
      "the agent to see the pool",
      async () => (await world.call({ command: "STATUS", config: base })).code === 0,
    );
    await settled(world, 0);
  });

  await test("a value of the endpoint's own key that cannot be read is replaced by ADD and removed by DEL", async () => {
    const key = "/calico/resources/v3/projectcalico.org/workloadendpoints/default/alder-cni-b1-eth0";
    await world.etcd.etcdctl("put", key, '{"spec":{"containerID":"b1"');
    await wait("ADD to go through", async () => (await world.call({ command: "ADD", ...call })).code === 0);
    await settled(world, 1);
    await world.etcd.etcdctl("put", key, '{"spec":{"containerID":"b1"');
    await good(world, { command: "DEL", ...call });
    await settled(world, 0);
  });

  await test("the nodename file is missing", async () => {
    const config = { ...base, nodename_file: `${world.dir}/none`, nodename_file_optional: false };
    const result = await world.call({ command: "ADD", ...call, config });
    deepEqual([codeOf(result), /has not started/.test(textOf(result))], [11, true]);
    await good(world, { command: "DEL", ...call, config });
  });
});
