import { equal, match, ok } from "node:assert/strict";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";

const config = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};
const root = "/calico/felix/v2/no-region/host/alder", hosts = "/calico/felix/v1/host/alder/endpoint";
const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };

const felix = (world: AgentWorld, spec: Record<string, unknown>) =>
  world.put({ kind: "FelixConfiguration", metadata: { name: "default", ...named }, spec });
const hostEndpoint = (world: AgentWorld, name: string, interfaceName: string) =>
  world.put({ kind: "HostEndpoint", metadata: { name, ...named }, spec: { node: "alder", interfaceName } });

/** Waits until a key has this value; undefined = it is gone. */
async function becomes(world: AgentWorld, key: string, value: string | undefined): Promise<void> {
  let last: Map<string, string> = new Map();
  const is = async () => (last = await world.etcd.dump("/calico/felix/")).get(key) === value;
  await wait(`${key} to be ${value}`, is).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify([...last])}\n${world.log().slice(-2_000)}`);
  });
}

async function filesOf(world: AgentWorld): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir(`${world.dir}/endpoint-status`)) found.push(name);
  return found.sort();
}

async function leaseOf(world: AgentWorld): Promise<string> {
  const answer = await world.etcd.etcdctl("get", `${root}/status`, "-w", "json");
  return BigInt(/"lease":(\d+)/.exec(answer)![1]!).toString(16); // more digits than a number holds
}

/** Metrics are switched on while it runs, and tell of the pod under Felix's names. */
async function metricsTell(world: AgentWorld): Promise<void> {
  await world.put({
    kind: "FelixConfiguration",
    metadata: { name: "node.alder", ...named },
    spec: { prometheusMetricsEnabled: true },
  });
  const read = async () => (await world.host.run("curl", ["-sS", "http://127.0.0.1:9099/metrics"])).stdout;
  await wait("metrics", async () => /^felix_active_local_endpoints 2$/m.test(await read()));
  const all = await read();
  const expected = [
    /^felix_resync_state 3$/m,
    /^felix_host\{host="alder"\} 1$/m,
    /^felix_cluster_num_workload_endpoints 1$/m,
    /^felix_iptables_chains\{ip_version="4",table="filter"\} [1-9]/m,
    /^felix_iptables_rules\{ip_version="6",table="raw"\} [1-9]/m,
    /^felix_iptables_restore_calls [1-9]/m,
    /^felix_iptables_restore_errors 0$/m,
    /^felix_ipsets_calico\{ip_version="4"\} [1-9]/m,
    /^felix_int_dataplane_apply_time_seconds_count [1-9]/m,
    /^felix_int_dataplane_failures 0$/m,
    /^felix_calc_graph_updates_processed\{type="model.WorkloadEndpointKey"\} [1-9]/m,
    /^felix_route_table_num_routes\{table="IPv4:254"\} [1-9]/m,
    /^felix_ipsets_total [1-9]/m,
    /^felix_exec_time_micros_count [1-9]/m,
    /^felix_exec_time_micros\{quantile="0\.5"\} [1-9]/m,
    /^felix_int_dataplane_messages\{type="WorkloadEndpointUpdate"\} [1-9]/m,
    /^felix_int_dataplane_messages\{type="HostEndpointUpdate"\} [1-9]/m,
    /^felix_int_dataplane_messages\{type="HostEndpointRemove"\} [1-9]/m,
    /^felix_int_dataplane_msg_batch_size_count [1-9]/m,
    /^felix_int_dataplane_iface_msg_batch_size_count [1-9]/m,
    /^felix_int_dataplane_addr_msg_batch_size_count [0-9]/m,
    /^felix_route_table_num_ifaces\{table="IPv4:254"\} 1$/m,
    /^felix_route_table_resync_seconds_count [1-9]/m,
    /^felix_label_index_selector_evals\{result="false"\} [0-9]/m,
    /^felix_label_index_strategy_evals\{strategy="endpoint-single-value"\} [0-9]/m,
    /^felix_logs_dropped 0$/m,
    /^felix_log_errors 0$/m,
    /^process_resident_memory_bytes [1-9]/m,
    /^process_cpu_seconds_total 0?\.?[0-9]/m,
    /^process_open_fds [1-9]/m,
    /^tortie_objects_refused 0$/m,
  ];
  for (const pattern of expected) match(all, pattern);
}

Deno.test("agent and endpoints are told in etcd and files, and nothing stale stays", async (t) => {
  await using world = await makeAgentWorld("st");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.89.0.0/20", blockSize: 28 }]);
  const settings = { reportingInterval: "1s", reportingTTL: "2s", endpointReportingDelay: "0s" };
  await felix(world, { ...settings, endpointReportingEnabled: true });
  await hostEndpoint(world, "eth", "eth0");
  await hostEndpoint(world, "none", "eth9");
  const pod = await world.pod();
  const at = { containerId: "c1", netns: pod.path, config };
  const workload = `${root}/workload/cni/default%2fc1/endpoint/eth0`;
  const file = "cni default%2Fc1 eth0";
  const up = '{"status":"up"}', down = '{"status":"down"}';
  await world.start({ env: { FELIX_PROMETHEUSMETRICSPORT: "9099", FELIX_HEALTHPORT: "9098" } });

  await t.step("host endpoints: up, and error without an interface", async () => {
    await becomes(world, `${hosts}/eth`, up);
    await becomes(world, `${hosts}/none`, '{"status":"error"}');
    await world.host.ip("link add eth9 type veth peer name wire9");
    await becomes(world, `${hosts}/none`, down);
    for (const name of ["eth9", "wire9"]) await world.host.ip(`link set ${name} up`);
    await becomes(world, `${hosts}/none`, up);
    await world.etcd.etcdctl("del", "/calico/resources/v3/projectcalico.org/hostendpoints/none");
    await becomes(world, `${hosts}/none`, undefined);
  });

  await t.step("a workload: up, down when its interface goes, gone with it", async () => {
    equal((await world.call({ command: "ADD", ...at })).code, 0, world.log());
    await becomes(world, workload, up);
    await wait("its file", async () => (await filesOf(world)).includes(file));
    const written = JSON.parse(await Deno.readTextFile(`${world.dir}/endpoint-status/${file}`));
    match(written.ifaceName, /^cali/);
    match(written.ipv4Nets[0], /^10\.89\.\d+\.\d+\/32$/);
    await metricsTell(world);
    await pod.ip("link set eth0 down");
    await becomes(world, workload, down);
    await wait("its file to go", async () => !(await filesOf(world)).includes(file));
    await pod.ip("link set eth0 up");
    await becomes(world, workload, up);
  });

  await t.step("the agent's status: Felix's JSON under one lease, which is made again when it is lost", async () => {
    await wait("the status", async () => (await world.etcd.dump(root)).has(`${root}/status`));
    const values = await world.etcd.dump(root);
    match(values.get(`${root}/status`)!, /^\{"time":"[\d-]+T[\d:]+Z","uptime":[\d.]+,"first_update":(true|false)\}$/);
    ok(values.has(`${root}/last_reported_status`));
    const lease = await leaseOf(world);
    const written = values.get(`${root}/status`);
    await wait("the next report", async () => (await world.etcd.dump(root)).get(`${root}/status`) !== written);
    equal(await leaseOf(world), lease, "no lease is asked for in vain");
    await world.etcd.etcdctl("lease", "revoke", lease);
    await wait("another lease", async () => {
      const there = (await world.etcd.dump(root)).has(`${root}/status`);
      return there && await leaseOf(world) !== lease;
    });
  });

  await t.step("kill -9: status goes by itself; what was deleted meanwhile is not told any more", async () => {
    await world.stop("SIGKILL");
    await world.etcd.etcdctl("del", "/calico/resources/v3/projectcalico.org/hostendpoints/eth");
    await world.etcd.etcdctl("put", `${root}/workload/k8s/a%2fgone/endpoint/eth0`, up);
    await Deno.writeTextFile(`${world.dir}/endpoint-status/k8s a%2Fgone eth0`, "{}");
    await becomes(world, `${root}/status`, undefined);
    ok((await world.etcd.dump(root)).has(`${root}/last_reported_status`));
    await world.start();
    await becomes(world, `${hosts}/eth`, undefined);
    await becomes(world, `${root}/workload/k8s/a%2fgone/endpoint/eth0`, undefined);
    await becomes(world, workload, up);
    await wait("stale files to go", async () => (await filesOf(world)).join() === file);
  });

  await t.step("switched off while it runs, the states go; a removed endpoint's file goes", async () => {
    await felix(world, { ...settings, reportingInterval: "0s" });
    await becomes(world, workload, undefined);
    await becomes(world, `${root}/status`, undefined);
    equal((await world.call({ command: "DEL", ...at })).code, 0);
    await wait("no file", async () => (await filesOf(world)).length === 0);
  });
});
