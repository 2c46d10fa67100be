import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { run } from "../../lib/process.ts";
import { type AgentWorld, makeAgentWorld, type PluginCall, type PluginResult, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { settled, stateOf } from "./_cni_state.ts";

const base = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};

type Result = {
  cniVersion: string;
  interfaces: { name: string; mac?: string; sandbox?: string; mtu?: number }[];
  ips: { address: string; interface: number }[];
  routes: { dst: string }[];
};

const resultOf = (r: PluginResult): Result => r.json as unknown as Result;
const codeOf = (r: PluginResult): number => (r.json as { code: number }).code;
const textOf = (r: PluginResult): string => `${r.json.msg}; ${r.json.details}`;
const k8sArgs = (name: string, namespace = "shop") =>
  `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=u-1`;

/** Runs a call that must succeed. */
async function good(world: AgentWorld, call: PluginCall): Promise<PluginResult> {
  const result = await world.call(call);
  equal(result.code, 0, `${call.command}: ${result.stdout} ${result.stderr}\n${world.log().slice(-1500)}`);
  return result;
}

Deno.test("CNI calls through a running agent", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  await world.start();
  const pod = await world.pod();
  const at = (containerId: string, space: Namespace = pod) => ({ containerId, netns: space.path, config: base });
  const test = (name: string, work: () => Promise<void>) => t.step(name, work);

  await test("a repeated ADD of a live attachment answers as before and takes no second address", async () => {
    const first = await good(world, { command: "ADD", ...at("c1") });
    const again = await good(world, { command: "ADD", ...at("c1") });
    deepEqual(again.json, first.json);
    equal(resultOf(first).cniVersion, "1.1.0");
    equal((await settled(world, 1)).addresses.size, 1);
  });

  await test("an ADD whose link somebody removed is made anew under the same container id", async () => {
    await pod.ip("link del eth0");
    await good(world, { command: "ADD", ...at("c1") });
    await settled(world, 1);
  });

  await test("CHECK succeeds after ADD, tolerates what others added, and needs no prevResult", async () => {
    await pod.ip("addr add 192.0.2.7/32 dev eth0");
    await pod.ip("route add 198.51.100.0/24 dev eth0");
    const before = await good(world, { command: "ADD", ...at("c1") });
    await good(world, { command: "CHECK", ...at("c1"), config: { ...base, prevResult: before.json } });
    await good(world, { command: "CHECK", ...at("c1") });
  });

  await test("CHECK names what is missing: address, route, link, endpoint", async () => {
    const [ip] = resultOf(await good(world, { command: "ADD", ...at("c1") })).ips;
    const check = () => world.call({ command: "CHECK", ...at("c1") });
    await pod.ip(`addr del ${ip!.address} dev eth0`);
    equal(codeOf(await check()), 120);
    match(textOf(await check()), /eth0 lacks 10\.88\./);
    await pod.ip(`addr add ${ip!.address} dev eth0`);
    await pod.ip("route del default");
    match(textOf(await check()), /no IPv4 route/);
    await pod.ip("route add default via 169.254.1.1 dev eth0");
    await good(world, { command: "CHECK", ...at("c1") });
    const foreign = await world.pod();
    match(textOf(await world.call({ command: "CHECK", ...at("c1", foreign) })), /eth0 does not exist/);
    match(textOf(await world.call({ command: "CHECK", ...at("c9") })), /no workload endpoint/);
    const prevResult = { cniVersion: "1.1.0", interfaces: [], ips: [{ address: "10.88.15.1/32" }] };
    match(
      textOf(await world.call({ command: "CHECK", ...at("c1"), config: { ...base, prevResult } })),
      /does not have 10\.88\.15\.1/,
    );
  });

  await test("DEL leaves nothing, and may be repeated, without a namespace too", async () => {
    await good(world, { command: "DEL", ...at("c1") });
    await settled(world, 0);
    await good(world, { command: "DEL", ...at("c1") });
    await good(world, { command: "DEL", ...at("c1"), netns: "/run/netns/h5-none" });
    await good(world, { command: "DEL", ...at("c1"), netns: undefined });
  });

  await test("a namespace may be named by a relative path and by /proc/<pid>/ns/net", async () => {
    const sleeper = new Deno.Command("nsenter", { args: [`--net=${pod.path}`, "sleep", "60"] }).spawn();
    try {
      await good(world, { command: "ADD", ...at("c2"), netns: `/proc/${sleeper.pid}/ns/net` });
      equal((await settled(world, 1)).links.length, 1);
      const relative = `${"../".repeat(20)}proc/${sleeper.pid}/ns/net`;
      await good(world, { command: "DEL", ...at("c2"), netns: relative });
      equal((await pod.ipJson("link show")).length, 1);
    } finally {
      sleeper.kill("SIGKILL");
      await sleeper.status;
    }
    await settled(world, 0);
  });

  await test("a second network or interface of a container is refused, and its DEL leaves the first alone", async () => {
    await good(world, { command: "ADD", ...at("c3") });
    const other = { ...at("c3"), config: { ...base, name: "net-y" } };
    equal(codeOf(await world.call({ command: "ADD", ...other })), 102);
    await good(world, { command: "DEL", ...other });
    equal(codeOf(await world.call({ command: "ADD", ...at("c3"), ifName: "eth1" })), 102);
    await good(world, { command: "DEL", ...at("c3"), ifName: "eth1" });
    await good(world, { command: "CHECK", ...at("c3") });
    await good(world, { command: "DEL", ...at("c3") });
    await settled(world, 0);
  });

  await test("an interface name that the pod has already is refused and nothing is left of the ADD", async () => {
    await pod.ip("link add eth0 type veth peer name other");
    const refused = await world.call({ command: "ADD", ...at("c4") });
    equal(codeOf(refused), 102);
    match(textOf(refused), /eth0/);
    equal(codeOf(await world.call({ command: "ADD", ...at("c4") })), 102);
    equal((await pod.ipJson("link show eth0")).length, 1, "the foreign interface stays");
    await settled(world, 0);
    await pod.ip("link del eth0");
  });

  await test("a Mesos label that moves the endpoint into a namespace is followed by DEL", async () => {
    const labels = [{ key: "projectcalico.org/namespace", value: "ns9" }, { key: "team/x", value: "blue!" }];
    const config = { ...base, args: { "org.apache.mesos": { network_info: { labels: { labels } } } } };
    await good(world, { command: "ADD", ...at("c5"), config });
    ok([...(await stateOf(world)).endpoints.keys()].length === 1);
    await good(world, { command: "DEL", ...at("c5"), config });
    await settled(world, 0);
  });

  await test("a result of a plugin in front of us is passed on, ours behind it", async () => {
    const prevResult = {
      ...{ cniVersion: "1.1.0", interfaces: [{ name: "lo", sandbox: pod.path }] },
      ips: [{ address: "127.0.0.1/8", interface: 0 }],
    };
    const { ips, interfaces } = resultOf(
      await good(world, { command: "ADD", ...at("c6"), config: { ...base, prevResult } }),
    );
    deepEqual(interfaces.map((i) => i.name), ["lo", "calic6", "eth0"]);
    deepEqual(ips.map((i) => i.interface), [0, 2]);
    await good(world, { command: "DEL", ...at("c6") });
  });

  await test("portmap and bandwidth work behind us in a chain", async () => {
    const added = await good(world, { command: "ADD", ...at("c7"), config: { ...base, cniVersion: "1.0.0" } });
    const chained = { name: "net-x", cniVersion: "1.0.0", prevResult: added.json };
    const runtimeConfig = { portMappings: [{ hostPort: 18080, containerPort: 80, protocol: "tcp" }] };
    const bandwidth = { ...chained, type: "bandwidth", ingressRate: 1_000_000, ingressBurst: 1_000_000 };
    for (const config of [{ ...chained, type: "portmap", snat: true, runtimeConfig }, bandwidth]) {
      const env = { ...Deno.env.toObject(), CNI_COMMAND: "ADD", CNI_CONTAINERID: "c7", CNI_NETNS: pod.path };
      const other = { CNI_IFNAME: "eth0", CNI_PATH: "/usr/lib/cni" };
      const args = [`--net=${world.host.path}`, `/usr/lib/cni/${config.type}`];
      const result = await run("nsenter", args, { env: { ...env, ...other }, stdin: JSON.stringify(config) });
      equal(result.code, 0, `${config.type}: ${result.stdout}`);
      deepEqual((JSON.parse(result.stdout) as Result).ips, resultOf(added).ips);
    }
    await good(world, { command: "CHECK", ...at("c7") });
    await good(world, { command: "DEL", ...at("c7") });
    await settled(world, 0);
  });

  await test("host-local gives the address when the configuration says so, and gets it back", async () => {
    const ipam = { type: "host-local", dataDir: `${world.dir}/host-local`, ranges: [[{ subnet: "10.99.0.0/24" }]] };
    const config = { ...base, cniVersion: "1.0.0", ipam: { ...ipam, routes: [{ dst: "10.0.0.0/8" }] } };
    const added = await good(world, { command: "ADD", ...at("c8"), config, args: "IgnoreUnknown=1" });
    match(resultOf(added).ips[0]!.address, /^10\.99\.0\.\d+\/32$/);
    ok(!("gateway" in resultOf(added).ips[0]!), "host-local's gateway is nobody's here");
    deepEqual((await stateOf(world)).addresses.size, 0);
    const leases = () => [...Deno.readDirSync(`${world.dir}/host-local/net-x`)].filter((f) => f.name.startsWith("10."));
    equal(leases().length, 1);
    const routes = await pod.ip("route");
    match(routes, /10\.0\.0\.0\/8 via 169\.254\.1\.1/);
    ok(!routes.includes("default"), routes);
    await good(world, { command: "DEL", ...at("c8"), config });
    equal(leases().length, 0);
    await pod.ip("link add eth0 type veth peer name other");
    equal(codeOf(await world.call({ command: "ADD", ...at("c8"), config })), 102);
    equal(leases().length, 0, "a failed ADD gives the address back");
    await pod.ip("link del eth0");
    await settled(world, 0);
  });

  await test("an error of a delegated plugin is passed on as it is", async () => {
    const config = { ...base, cniVersion: "1.0.0", ipam: { type: "host-local", ranges: [[{ subnet: "nonsense" }]] } };
    const failed = await world.call({ command: "ADD", ...at("c8"), config });
    ok(codeOf(failed) >= 1 && /nonsense/.test(textOf(failed)), textOf(failed));
    equal(failed.json.cniVersion, "1.0.0");
  });

  await test("STATUS says whether an ADD would be served", async () => {
    await good(world, { command: "STATUS", config: base });
    const v6 = await world.call({
      command: "STATUS",
      config: { ...base, ipam: { type: "calico-ipam", assign_ipv6: "true" } },
    });
    equal(codeOf(v6), 50);
    const old = await world.call({ command: "STATUS", config: { ...base, cniVersion: "1.0.0" } });
    deepEqual([codeOf(old), old.json.msg], [1, "config version does not allow STATUS"]);
  });

  await test("GC removes what vanished containers hold in this network, and nothing else", async () => {
    const pods = [pod, await world.pod(), await world.pod()] as const;
    const dotted = { ...base, name: "net-x.y" };
    await good(world, { command: "ADD", ...at("g1", pods[0]) });
    await good(world, { command: "ADD", ...at("g2", pods[1]) });
    await good(world, { command: "ADD", ...at("g3", pods[2]), config: dotted });
    const valid = [{ containerID: "g1", ifname: "eth0" }];
    await good(world, { command: "GC", config: { ...base, "cni.dev/valid-attachments": valid } });
    const state = await settled(world, 2);
    deepEqual([...state.addresses.values()].sort(), ["net-x.g1", "net-x.y.g3"]);
    await good(world, { command: "GC", config: { ...dotted, "cni.dev/valid-attachments": [] } });
    await good(world, { command: "GC", config: base });
    await settled(world, 0);
    const wrong = await world.call({ command: "GC", config: { ...base, "cni.dev/valid-attachments": ["g1"] } });
    equal(codeOf(wrong), 7);
  });

  await test("GC goes on over what it cannot judge, and reports it", async () => {
    await good(world, { command: "ADD", ...at("g4") });
    const broken = "/calico/ipam/v2/handle/net-x.broken";
    await world.etcd.etcdctl("put", broken, "{");
    const result = await world.call({ command: "GC", config: { ...base, "cni.dev/valid-attachments": [] } });
    equal(codeOf(result), 121);
    match(textOf(result), /net-x\.broken/);
    await world.etcd.etcdctl("del", broken);
    await settled(world, 0);
  });

  await test("concurrent ADDs share transactions and get different addresses", async () => {
    const pods = await Promise.all(Array.from({ length: 12 }, () => world.pod()));
    const results = await Promise.all(pods.map((p, i) => world.call({ command: "ADD", ...at(`p${i}`, p) })));
    deepEqual(results.map((r) => r.code), results.map(() => 0));
    equal(new Set(results.map((r) => resultOf(r).ips[0]!.address)).size, 12);
    await settled(world, 12);
    const gone = await Promise.all(pods.map((p, i) => world.call({ command: "DEL", ...at(`p${i}`, p) })));
    deepEqual(gone.map((r) => r.code), gone.map(() => 0));
    await settled(world, 0);
  });

  await test("an ADD and a DEL cost etcd one request each", async () => {
    const requests = async () => {
      const text = await world.host.runOk("curl", ["-sS", `${world.etcd.endpoint}/metrics`]);
      const lines = text.split("\n").filter((l) =>
        /^grpc_server_started_total\{grpc_method="(Range|Txn|Put|DeleteRange)"/.test(l)
      );
      return lines.reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);
    };
    await good(world, { command: "ADD", ...at("q0") });
    await good(world, { command: "DEL", ...at("q0") });
    const before = await requests();
    await good(world, { command: "ADD", ...at("q1") });
    equal(await requests() - before, 1);
    await good(world, { command: "DEL", ...at("q1") });
    equal(await requests() - before, 2);
  });

  await test("a DEL that comes while its ADD runs wins", async () => {
    world.etcd.stop();
    const adding = world.call({ command: "ADD", ...at("r1") });
    const calls = async () => ((await world.get("/v1/status")).body as { calls: number }).calls;
    await wait("the ADD to be under way", async () => await calls() === 1);
    const deleting = world.call({ command: "DEL", ...at("r1") });
    await wait("the DEL to be under way", async () => await calls() === 2);
    world.etcd.cont();
    const [added, deleted] = await Promise.all([adding, deleting]);
    equal(deleted.code, 0, deleted.stdout);
    notEqual(added.code, 0, "the ADD loses");
    await settled(world, 0);
  });

  await test("an unknown member of the configuration is told once, a known one without effect too", async () => {
    const config = { ...base, wombat: 1, log_file_path: "/x", ipam: { type: "calico-ipam", kept: true } };
    for (const id of ["u1", "u1"]) await good(world, { command: "ADD", ...at(id), config });
    await good(world, { command: "DEL", ...at("u1"), config });
    equal(world.log().split('"member":"wombat"').length, 2);
    equal(world.log().split('"member":"log_file_path"').length, 2);
    ok(!world.log().includes("kept"), "what is meant for an IPAM plugin is its own business");
  });

  await test("a second agent on the same socket is refused", async () => {
    const log = `${world.dir}/second.log`;
    const env = { ETCD_ENDPOINTS: world.etcd.endpoint, NODENAME: "alder", TORTIE_RUN_DIR: `${world.dir}/run` };
    const second = { ...env, TORTIE_STATE_DIR: `${world.dir}/second`, FELIX_HEALTHENABLED: "false" };
    const line = `mount --bind ${world.dir}/calico /var/lib/calico && exec ${world.dir}/bin/tortie agent >${log} 2>&1`;
    const args = [`--net=${world.host.path}`, "unshare", "--mount", "sh", "-c", line];
    const result = await run("nsenter", args, { env: second, timeoutMs: 20_000 });
    notEqual(result.code, 0);
    match(await Deno.readTextFile(log), /another agent answers/);
    await good(world, { command: "STATUS", config: base });
  });

  await test("the socket answers curl, and only its owner may connect", async () => {
    equal((await world.get("/v1/endpoints")).status, 200);
    equal((await world.get("/v1/nothing")).status, 404);
    equal(Deno.statSync(world.socket).mode! & 0o777, 0o600);
  });
});

Deno.test("Kubernetes pods through a running agent", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [
    { name: "p4", cidr: "10.88.0.0/20", blockSize: 28 },
    { name: "q4", cidr: "10.89.0.0/24", blockSize: 29 },
  ]);
  const api = await world.api();
  await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { env: "prod" } } });
  const putPod = (name: string, annotations: Record<string, string> = {}, namespace = "shop") =>
    api.put({
      ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace, annotations, labels: { app: name } } },
      spec: { nodeName: "alder", containers: [{ name: "c" }], serviceAccountName: "seller" },
    } as never);
  await putPod("cart-0");
  await world.start();
  const pods = [await world.pod(), await world.pod()] as const;
  const config = { ...base, policy: { type: "k8s" }, kubernetes: { kubeconfig: api.kubeconfig } };
  const at = (containerId: string, name: string, i = 0) => ({
    ...{ containerId, netns: pods[i]!.path, config, args: k8sArgs(name) },
  });
  const test = (name: string, work: () => Promise<void>) => t.step(name, work);

  await test("a re-created pod gets its route and its endpoint at once; the old sandbox's DEL leaves it alone", async () => {
    await good(world, { command: "ADD", ...at("old", "cart-0") });
    const fresh = await good(world, { command: "ADD", ...at("new", "cart-0", 1) });
    const ip = resultOf(fresh).ips[0]!.address.split("/")[0]!;
    const routes = await world.host.ipJson<{ dst: string; dev: string }[]>(`route get ${ip}`);
    equal(routes[0]!.dev, "cali18582a65b10", "its route stands when ADD answers");
    await good(world, { command: "DEL", ...at("old", "cart-0") });
    const state = await settled(world, 1);
    equal([...state.endpoints.values()][0]!.spec.containerID, "new");
    await good(world, { command: "DEL", ...at("new", "cart-0", 1) });
    await settled(world, 0);
  });

  await test("a re-created pod with fixed addresses takes them over from its older sandbox", async () => {
    await putPod("db-0", { "cni.projectcalico.org/ipAddrs": '["10.89.0.77"]' });
    await good(world, { command: "ADD", ...at("db1", "db-0") });
    const second = await good(world, { command: "ADD", ...at("db2", "db-0", 1) });
    equal(resultOf(second).ips[0]!.address, "10.89.0.77/32");
    await good(world, { command: "DEL", ...at("db1", "db-0") });
    deepEqual([...(await settled(world, 1)).addresses], [["10.89.0.77", "net-x.db2"]]);
    await good(world, { command: "DEL", ...at("db2", "db-0", 1) });
    await settled(world, 0);
  });

  await test("two pods whose namespace.name is the same text cannot share a host interface", async () => {
    await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "a" } });
    await putPod("b.c", {}, "a");
    await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "a.b" } });
    await putPod("c", {}, "a.b");
    await good(world, { command: "ADD", ...at("k1", ""), args: k8sArgs("b.c", "a") });
    const refused = await world.call({ command: "ADD", ...at("k2", "", 1), args: k8sArgs("c", "a.b") });
    equal(codeOf(refused), 102);
    match(textOf(refused), /belongs to a\/alder-k8s-b\.c-eth0/);
    await settled(world, 1);
    await good(world, { command: "DEL", ...at("k2", "", 1), args: k8sArgs("c", "a.b") });
    await good(world, { command: "DEL", ...at("k1", ""), args: k8sArgs("b.c", "a") });
    await settled(world, 0);
  });

  await test("annotations that cannot be followed are refused with their name", async () => {
    const bad: [string, Record<string, string>, RegExp][] = [
      ["x1", { ipAddrs: '["10.89.0.1","10.89.0.2"]' }, /more than one IPv4/],
      ["x2", { ipAddrs: "10.89.0.1" }, /not JSON|not a JSON list/],
      ["x3", { ipFamilies: '["IPv5"]' }, /ipFamilies/],
      ["x4", { hwAddr: "nonsense" }, /MAC/],
      ["x5", { floatingIPs: '["1.2.3.4"]' }, /floating_ips/],
      ["x6", { allowedSourcePrefixes: '["x"]' }, /CIDR/],
      ["x7", { ipv4pools: '["nope"]' }, /nope/],
    ];
    for (const [name, annotations, text] of bad) {
      const full = Object.entries(annotations).map(([k, v]) => [`cni.projectcalico.org/${k}`, v]);
      await putPod(name, Object.fromEntries(full));
      const refused = await world.call({ command: "ADD", ...at(name, name) });
      equal(refused.code, 1);
      match(textOf(refused), text);
    }
    await settled(world, 0);
  });

  await test("a rotated token is read anew", async () => {
    const kubeconfig = await Deno.readTextFile(api.kubeconfig);
    await Deno.writeTextFile(api.kubeconfig, kubeconfig.replace(api.token, "wrong"));
    equal(codeOf(await world.call({ command: "ADD", ...at("t1", "cart-0") })), 105);
    await Deno.writeTextFile(api.kubeconfig, kubeconfig);
    await good(world, { command: "ADD", ...at("t1", "cart-0") });
    await good(world, { command: "DEL", ...at("t1", "cart-0") });
    await settled(world, 0);
  });

  await test("host-local gets the node's pod CIDR", async () => {
    await api.put(
      { apiVersion: "v1", kind: "Node", metadata: { name: "alder" }, spec: { podCIDRs: ["10.77.1.0/24"] } } as never,
    );
    const ipam = { type: "host-local", dataDir: `${world.dir}/host-local`, subnet: "usePodCidr" };
    const local = { ...config, cniVersion: "1.0.0", ipam };
    const added = await good(world, { command: "ADD", ...at("hl1", "cart-0"), config: local });
    match(resultOf(added).ips[0]!.address, /^10\.77\.1\.\d+\/32$/);
    await good(world, { command: "DEL", ...at("hl1", "cart-0"), config: local });
    await settled(world, 0);
  });

  await test("the IPAM plugin alone gives addresses under the container's handle", async () => {
    const plugin = "calico-ipam";
    const call = { ...at("ip1", "cart-0"), plugin };
    const added = await good(world, { command: "ADD", ...call });
    match(resultOf(added).ips[0]!.address, /^10\.8[89]\.\d+\.\d+\/2[89]$/);
    await good(world, { command: "CHECK", ...call });
    await good(world, { command: "DEL", ...call });
    equal(codeOf(await world.call({ command: "CHECK", ...call })), 120);
    await settled(world, 0);
  });
});

Deno.test("an agent that dies at any step of an ADD leaves nothing behind after its next start", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  const pod = await world.pod();
  const steps = ["recorded", "planned", "connected", "committed", "learned", "enforced", "settled"];
  for (const [i, step] of steps.entries()) {
    await t.step(`dies at "${step}"`, async () => {
      await world.start({ env: { TORTIE_TEST_DIE_AT: step } });
      const call = { containerId: `d${i}`, netns: pod.path, config: base };
      const added = await world.call({ command: "ADD", ...call });
      equal(codeOf(added), 11, added.stdout);
      await world.stop("SIGKILL");
      await world.start();
      // "settled" is after the last of the agent's own records: what the runtime's DEL, which follows a failed ADD, removes.
      if (step === "settled") await good(world, { command: "DEL", ...call });
      await settled(world, 0);
      equal((await pod.ipJson("link show")).length, 1, "the pod has its loopback alone");
      await world.stop();
    });
  }
});

Deno.test("DEL needs no agent, and a renamed node still frees what it gave", async (t) => {
  await using world = await makeAgentWorld("h5");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  await world.start();
  const pod = await world.pod();
  const call = { containerId: "w1", netns: pod.path, config: base };

  await t.step("without an agent DEL removes the link, and the next agent the rest", async () => {
    await good(world, { command: "ADD", ...call });
    await world.stop("SIGKILL");
    const del = await good(world, { command: "DEL", ...call });
    equal(del.stdout, "");
    const left = await stateOf(world);
    deepEqual([left.links, left.journal.length, left.addresses.size], [[], 1, 1]);
    const add = await world.call({ command: "ADD", ...call });
    deepEqual([codeOf(add), add.json.cniVersion], [11, "1.1.0"]);
    equal(codeOf(await world.call({ command: "STATUS", config: base })), 50);
    await world.start();
    await settled(world, 0);
  });

  await t.step("an agent with another node name frees a container that the old name's node gave", async () => {
    await good(world, { command: "ADD", ...call });
    await world.stop();
    await putCluster(world, "birch", []);
    await world.start({ node: "birch" });
    const renamed = { ...base, nodename: "birch" };
    const old = await world.call({ command: "ADD", ...call, containerId: "w2" });
    equal(codeOf(old), 7);
    match(textOf(old), /this node is birch, not alder/);
    await good(world, { command: "DEL", ...call, config: renamed });
    await settled(world, 0);
    await world.stop();
  });

  await t.step("-t, -v and no command at all answer without an agent", async () => {
    const plugin = (args: string[], env = {}) =>
      run(`${world.dir}/bin/calico`, args, { stdin: "", env: { TORTIE_SOCKET: world.socket, ...env } });
    const test = await plugin(["-t"]);
    deepEqual([test.code, (JSON.parse(test.stdout) as { code: number }).code], [1, 100]);
    match((await plugin(["-v"])).stdout, /^\d+\.\d+\.\d+\n$/);
    const about = await plugin([]);
    deepEqual([about.code, about.stdout], [0, ""]);
    match(about.stderr, /CNI protocol versions supported: 0\.1\.0, .*1\.1\.0/);
    const version = await plugin([], { CNI_COMMAND: "VERSION" });
    equal((JSON.parse(version.stdout) as { cniVersion: string }).cniVersion, "1.1.0");
  });
});
