import { deepEqual, equal, match, ok } from "node:assert/strict";
import { storedPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import { resourcePrefix } from "../../datastore/kind.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const config = {
  ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};
const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };

/** A pod with the labels that one of Kubernetes would have. */
async function addPod(world: AgentWorld, app: string): Promise<{ pod: Namespace; ip: string }> {
  const pod = await world.pod();
  const { code, stdout, json } = await world.call({ command: "ADD", containerId: app, netns: pod.path, config });
  equal(code, 0, stdout + world.log().slice(-1_000));
  const stored = await world.etcd.dump(`${resourcePrefix}workloadendpoints/default/alder-cni-${app}-eth0`);
  const endpoint = JSON.parse([...stored.values()][0]!);
  Object.assign(endpoint.metadata.labels, { app, "projectcalico.org/orchestrator": "k8s" });
  endpoint.spec.pod = app;
  await world.put(endpoint);
  return { pod, ip: (json as { ips: { address: string }[] }).ips[0]!.address.split("/")[0]! };
}

/** Tries a TCP connection, as often as it takes for one SYN each. */
const tryPort = (pod: Namespace, ip: string, port: number) => pod.run("nc", ["-w1", "-z", ip, String(port)]);

interface Top {
  endpoints: { endpoint: string; deniedByDefault: number }[];
  policies: { policy: string; allowed: number; denied: number }[];
  hosts: { node: string; behind: number }[];
}

Deno.test("counters of the live rules, with nftables' iptables: why, get -o wide, top, drops and metrics agree", async (t) => {
  await using world = await makeAgentWorld("co");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.90.0.0/20", blockSize: 28 }]);
  await world.put({
    kind: "Tier",
    metadata: { name: "default", ...named },
    spec: { order: 1e6, defaultAction: "Deny" },
  });
  await world.start({ env: { FELIX_IPTABLESBACKEND: "nft" } });
  const web = await addPod(world, "web"), db = await addPod(world, "db");
  const kubernetes = {
    metadata: { name: "db", namespace: "default" },
    spec: {
      podSelector: { matchLabels: { app: "db" } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ protocol: "TCP", port: 7000 }] }],
    },
  };
  const { policy } = storedPolicyOf(kubernetes);
  await world.put({ ...policy, metadata: { ...policy.metadata, ...named } });
  const env = { TORTIE_RUN_DIR: `${world.dir}/run`, ETCD_ENDPOINTS: world.etcd.endpoint };
  const words = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const ctl = (...args: string[]) => world.host.runOk("env", [...words, `${world.dir}/bin/tortie`, "ctl", ...args]);
  const saved = () => world.host.runOk("iptables-nft-save", ["-t", "filter"]);
  await wait("the policy's rule", async () => (await saved()).includes("7000"));
  const atRest = (await saved()).split("\n").filter((l) => l.includes("cali"));

  /** SYNs on the allowed port; one more for each that was answered late. */
  let syns = 0;
  await t.step("why names the rule, and the kernel has it and counts", async () => {
    match(
      await ctl("why", "default/web", "default/db", "tcp/7000"),
      /rule 0 of NetworkPolicy:default\/knp\.default\.db\n[^]*live: the line is in the kernel of this host and has counted 0 packets, 0 bytes\n/,
    );
    for (let i = 0; i < 3; i++) await tryPort(web.pod, db.ip, 7000);
    await tryPort(web.pod, db.ip, 7001);
    const { hops } = JSON.parse(await ctl("why", "default/web", "default/db", "tcp/7000", "-o", "json"));
    syns = hops.at(-1).live.packets;
    ok(syns >= 3);
    deepEqual(hops.at(-1).live, { inKernel: true, packets: syns, bytes: syns * 60 });
    const denied = JSON.parse(await ctl("why", "default/web", "default/db", "tcp/7001", "-o", "json")).hops.at(-1);
    equal(denied.decidedBy, "tier");
    ok(denied.live.inKernel && denied.live.packets >= 1);
  });
  await t.step("get -o wide tells it by rule", async () => {
    match(
      await ctl("get", "np", "-n", "default", "-o", "wide"),
      new RegExp(`PACKETS BY RULE +BYTES +\\n[^]*knp\\.default\\.db .* in 0:${syns} +${syns * 60} `),
    );
  });
  await t.step("top, and the metrics of rules", async () => {
    const top: Top = JSON.parse(await ctl("top", "-o", "json"));
    equal(top.policies.find((p) => p.policy === "NetworkPolicy:default/knp.default.db")!.allowed, syns);
    ok(top.endpoints.find((e) => e.endpoint === "default/db")!.deniedByDefault >= 1);
    deepEqual(top.hosts.map((h) => [h.node, h.behind]), [["alder", 0]]);
    match(await ctl("top", "policies"), /POLICY +ALLOWED +DENIED +BYTES/);
    const metrics = await world.host.runOk("curl", ["-sf", "http://127.0.0.1:9099/metrics/rules"]);
    ok(
      metrics.includes(
        `tortie_rule_packets_total{policy="NetworkPolicy:default/knp.default.db",direction="ingress",rule="0",action="allow"} ${syns}`,
      ),
    );
  });
  await t.step("drops of a Kubernetes policy's default deny are told in its words", async () => {
    let text: string | undefined;
    const shown = ctl("drops", "default/db", "--for", "4s");
    shown.then((all) => text = all, () => text = "");
    while (text === undefined) await tryPort(web.pod, db.ip, 7002);
    match(await shown, /default\/web \([\d.]+\) -> default\/db \([\d.]+\) TCP 7002 SYN: DENIED on alder, ingress of /);
    match(
      await shown,
      /decided by the end of tier default[^\n]*\n +passed over: NetworkPolicy:default\/knp\.default\.db rule 0: destination port 7002 is not in 7000\n/,
    );
    await wait("the rules to be as they were", async () => {
      const now = (await saved()).split("\n").filter((l) => l.includes("cali"));
      return now.join() === atRest.join();
    }, { deadlineMs: 15_000 });
  });
});
