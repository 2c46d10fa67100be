/** Each of Felix's parameters that rules depend on, changed while the agent runs. */
import { equal, match, ok } from "node:assert/strict";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";

const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };
const root = "/calico/resources/v3/projectcalico.org";

/** Rules without packet counters and without what changes by itself. */
async function rules(world: AgentWorld): Promise<string> {
  const save = await world.host.runOk("iptables-legacy-save", []);
  return save.split("\n").filter((l) => /^(-A|\*|:cali)/.test(l)).map((l) => l.replace(/ \[\d+:\d+\]$/, "")).join("\n");
}

const felix = (world: AgentWorld, spec: Record<string, unknown>, name = "default", annotations = {}) =>
  world.put({ kind: "FelixConfiguration", metadata: { name, ...named, annotations }, spec });

/** What is said, and what the rules must then say. `not`: what they must not say any more. */
const parameters: { spec: Record<string, unknown>; has?: RegExp; not?: RegExp }[] = [
  {
    spec: { chainInsertMode: "Append" },
    has: /-A FORWARD -s 198\.51\.100\.1\/32 -j ACCEPT\n(-A FORWARD.*\n)*-A FORWARD .*-j cali-FORWARD/,
  },
  { spec: { defaultEndpointToHostAction: "Accept" }, has: /-A cali-wl-to-host .*-j ACCEPT/ },
  { spec: { defaultEndpointToHostAction: "Return" }, has: /-A cali-wl-to-host .*-j RETURN/ },
  { spec: { iptablesFilterAllowAction: "Return" }, not: /-A cali-tw-.* -j ACCEPT/ },
  { spec: { iptablesMangleAllowAction: "Return" }, has: /-A cali-PREROUTING .*RELATED,ESTABLISHED -j RETURN/ },
  { spec: { iptablesFilterDenyAction: "Reject" }, has: /-A cali-tw-.* -j REJECT/, not: /-A cali-tw-.* -j DROP/ },
  { spec: { logPrefix: "mine" }, has: /LOG --log-prefix "mine: / },
  {
    spec: { logActionRateLimit: "7/minute", logActionRateLimitBurst: 9 },
    has: /--limit 7\/min --limit-burst 9 -j LOG/,
  },
  { spec: { vxlanPort: 4999 }, has: /-A cali-fw-.*VXLAN.* --dports? 4999 -j DROP/ },
  { spec: { allowVXLANPacketsFromWorkloads: true }, not: /-A cali-fw-.*VXLAN/ },
  { spec: { allowIPIPPacketsFromWorkloads: true }, not: /-A cali-fw-.*IPinIP/ },
  { spec: { disableConntrackInvalidCheck: true }, not: /-A cali-tw-.*--ctstate INVALID/ },
  {
    spec: { failsafeInboundHostPorts: [{ protocol: "tcp", port: 2222, net: "192.0.2.0/24" }] },
    has: /-A cali-failsafe-in -s 192\.0\.2\.0\/24 .*--dports 2222 -j ACCEPT/,
  },
  { spec: { failsafeOutboundHostPorts: [] }, not: /-A cali-failsafe-out .*--dports 53 / },
  { spec: { natPortRange: "32768:65535" }, has: /-A cali-nat-outgoing .*MASQUERADE --to-ports 32768-65535/ },
  { spec: { natOutgoingAddress: "192.0.2.77" }, has: /-A cali-nat-outgoing .*SNAT --to-source 192\.0\.2\.77/ },
  { spec: { iptablesNATOutgoingInterfaceFilter: "eth+" }, has: /-A cali-nat-outgoing -o eth\+ .*MASQUERADE/ },
  {
    spec: { natOutgoingExclusions: "IPPoolsAndHostIPs" },
    has: /-A cali-nat-outgoing .*! --match-set cali40all-hosts-net dst/,
  },
  { spec: { serviceLoopPrevention: "Reject" }, has: /-A cali-cidr-block -d 10\.96\.0\.0\/12 .*-j REJECT/ },
  { spec: { serviceLoopPrevention: "Disabled" }, not: /-A cali-cidr-block -d/ },
  { spec: { iptablesMarkMask: 0xff00 }, has: /-A cali-PREROUTING .*--set-xmark 0x0\/0x1b00$/m },
  { spec: { interfacePrefix: "cali,tap" }, has: /-A cali-FORWARD -i tap\+ / },
  { spec: { workloadSourceSpoofing: "Any" }, has: /-A cali-rpf-skip -s 203\.0\.113\.0\/24 -i cali\w+ .*-j ACCEPT/ },
  { spec: { floatingIPs: "Enabled" }, has: /-A cali-fip-dnat -d 203\.0\.113\.9\/32 .*DNAT --to-destination 10\.92/ },
  { spec: { interfaceExclude: "/^eth/" }, not: /-A cali-from-host-endpoint -i eth0 / },
  {
    spec: { vxlanEnabled: true },
    has: /-A cali-PREROUTING .*--dport(s?) 4789 .*-j NOTRACK|-A cali-PREROUTING .*--dports 4789 -j CT --notrack/,
  },
  { spec: { ipipEnabled: true }, has: /-A cali-INPUT -p (4|ipencap|ipv4) / },
  {
    spec: { wireguardEnabled: true, wireguardListeningPort: 5555 },
    has: /-A cali-INPUT -p udp .*--dports 5555 .*-j ACCEPT/,
  },
  {
    spec: { wireguardEnabled: true, wireguardInterfaceName: "wgx" },
    has: /-A cali-POSTROUTING -o wgx .*-j MASQUERADE/,
  },
  {
    spec: { wireguardEnabled: true, wireguardHostEncryptionEnabled: true },
    has: /-A cali-wireguard-incoming-mark (?!-i).*--set-xmark 0x200000\/0x200000/,
  },
];

Deno.test("parameters of rules hold while the agent runs, from each source, and all of it goes back", async (t) => {
  await using world = await makeAgentWorld("st");
  await putCluster(world, "alder", []);
  const pool = { cidr: "10.92.0.0/20", blockSize: 28, natOutgoing: true, allowedUses: ["Workload"] };
  await world.put({ kind: "IPPool", metadata: { name: "p", ...named }, spec: pool });
  await world.put({
    kind: "Tier",
    metadata: { name: "default", ...named },
    spec: { order: 1e6, defaultAction: "Deny" },
  });
  const services = { serviceClusterIPs: [{ cidr: "10.96.0.0/12" }] };
  await world.put({ kind: "BGPConfiguration", metadata: { name: "default", ...named }, spec: services });
  await world.put({
    kind: "GlobalNetworkPolicy",
    metadata: { name: "log", ...named },
    spec: { tier: "default", selector: "all()", types: ["Ingress"], ingress: [{ action: "Log" }] },
  });
  await world.put({
    kind: "HostEndpoint",
    metadata: { name: "eth", ...named },
    spec: { node: "alder", expectedIPs: ["192.0.2.1"] },
  });
  await world.host.ip("addr add 192.0.2.1/24 dev eth0");
  await world.host.runOk("iptables-legacy", ["-A", "FORWARD", "-s", "198.51.100.1", "-j", "ACCEPT"]);
  await world.put({
    kind: "WorkloadEndpoint",
    metadata: { name: "alder-k8s-web-eth0", namespace: "shop", ...named },
    spec: {
      ...{
        orchestrator: "k8s",
        node: "alder",
        pod: "web",
        endpoint: "eth0",
        containerID: "c",
        interfaceName: "caliweb",
      },
      ...{ ipNetworks: ["10.92.0.2/32"], profiles: [], allowSpoofedSourcePrefixes: ["203.0.113.0/24"] },
      ipNATs: [{ internalIP: "10.92.0.2", externalIP: "203.0.113.9" }],
    },
  });
  await world.start({ env: { FELIX_IPTABLESBACKEND: "legacy" } });
  await wait("the pod's and the host's chains", async () => /cali-tw-caliweb[^]*cali-th-eth0/.test(await rules(world)));
  let before = await rules(world);
  await wait("rules at rest", async () => before === (before = await rules(world)));

  const becomes = (what: string, { has, not }: { has?: RegExp; not?: RegExp }) => {
    let last = "";
    const is = async () =>
      (!has || has.test(last = await rules(world))) && (!not || !not.test(last = await rules(world)));
    return wait(what, is, { everyMs: 20 }).catch((error) => {
      throw new Error(`${error.message}: ${has ?? ""} ${not ?? ""}\n${last}\n${world.log().slice(-1_500)}`);
    });
  };
  for (const { spec, has, not } of parameters) {
    await t.step(JSON.stringify(spec), async () => {
      ok(!has?.test(before) && (!not || not.test(before)), "it is otherwise by default");
      await felix(world, spec);
      await becomes(JSON.stringify(spec), { has, not });
    });
  }
  await t.step("without them all rules are as before", async () => {
    await felix(world, {});
    await wait("the first rules", async () => await rules(world) === before).catch(async () => {
      equal(await rules(world), before);
    });
  });
  await t.step("this node's beat those that select it, which beat the cluster's; annotations beat fields", async () => {
    await felix(world, { logPrefix: "cluster" });
    await becomes("cluster's", { has: /"cluster: / });
    await felix(world, { logPrefix: "selected", nodeSelector: "all()" }, "some");
    await becomes("selected", { has: /"selected: / });
    await felix(world, { logPrefix: "own" }, "node.alder");
    await becomes("own", { has: /"own: / });
    await felix(world, { logPrefix: "own" }, "node.alder", { "config.projectcalico.org/LogPrefix": "annotated" });
    await becomes("annotated", { has: /"annotated: / });
    for (const name of ["node.alder", "some"]) await world.etcd.etcdctl("del", `${root}/felixconfigurations/${name}`);
    await becomes("cluster's again", { has: /"cluster: / });
  });
  await t.step("a value that is not understood changes nothing and is named", async () => {
    await felix(world, { logPrefix: "cluster", iptablesFilterDenyAction: "Explode", logActionRateLimit: "often" });
    const isNamed = async () => {
      const { policy } = (await world.get("/v1/status")).body as {
        policy: { refused: { object: string; why: string }[] };
      };
      return policy.refused.find((r) => r.object === "FelixConfiguration:default")?.why ?? "";
    };
    await wait("it to be named", async () => (await isNamed()).includes("Explode"));
    match(await isNamed(), /logActionRateLimit/);
    await becomes("as before", { has: /"cluster: /, not: /REJECT/ });
  });
  await t.step("environment and Felix's own file beat the datastore", async () => {
    await world.stop();
    const file = `${world.dir}/felix.cfg`;
    await Deno.writeTextFile(file, "[global]\nLogPrefix = filed\nNATPortRange = 1000:2000\n");
    await world.start({
      env: { FELIX_IPTABLESBACKEND: "legacy", FELIX_CONFIG_FILE: file, FELIX_LOGPREFIX: "environ" },
    });
    await becomes("environment and file", { has: /"environ: [^]*|--to-ports 1000-2000/ });
    await becomes("the file", { has: /--to-ports 1000-2000/, not: /"(cluster|filed): / });
  });
});
