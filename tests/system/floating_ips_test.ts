/** External addresses of pods, end to end: annotation, endpoint, rules, packets. */
import assert from "node:assert/strict";
import { type AgentWorld, machineBeside, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const floating = "203.0.113.9";

Deno.test(
  "a pod is reached at its floating address from outside and from itself, and no more once it is gone or switched off",
  {
    sanitizeOps: false,
    sanitizeResources: false,
  },
  async () => {
    await using world = await makeAgentWorld("wgf");
    await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
    const rules = { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] };
    await world.put({ kind: "Profile", metadata: { name: "kns.shop" }, spec: rules });
    const felix = (floatingIPs: string) =>
      world.put({ kind: "FelixConfiguration", metadata: { name: "default" }, spec: { floatingIPs } });
    await felix("Enabled");
    const api = await world.api();
    await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: {} } });
    const annotations = { "cni.projectcalico.org/floatingIPs": `["${floating}"]` };
    await api.put({
      ...{ apiVersion: "v1", kind: "Pod", metadata: { name: "cart-0", namespace: "shop", labels: {}, annotations } },
      spec: { nodeName: "alder", containers: [{ name: "c" }] },
    } as never);
    const outside = await machineBeside(world);
    await world.start();
    const pod = await world.pod();
    const call = {
      ...{ containerId: "c1", netns: pod.path, args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0" },
      config: {
        ...{ name: "n", cniVersion: "1.0.0", type: "calico", nodename: "alder", nodename_file_optional: true },
        ...{ ipam: { type: "calico-ipam" }, policy: { type: "k8s" }, kubernetes: { kubeconfig: api.kubeconfig } },
        feature_control: { floating_ips: true },
      },
    };
    const added = await world.call({ command: "ADD", ...call });
    assert.equal(added.code, 0, added.stdout + added.stderr);
    const address = (added.json as { ips: { address: string }[] }).ips[0]!.address.split("/")[0]!;
    const [stored] = await endpoints(world);
    assert.deepEqual(stored!.spec.ipNATs, [{ internalIP: address, externalIP: floating }]);

    await wait("the pod at its floating address", () => reaches(outside, floating));
    assert.ok(await reaches(pod, floating), "from itself");
    assert.match(await world.host.ip(`route show ${floating}`), /dev cali/);

    await felix("Disabled");
    await wait("nothing there, switched off", async () => !await reaches(outside, floating));
    assert.ok(await reaches(outside, address), "its own address stays");
    await felix("Enabled");
    await wait("the pod again", () => reaches(outside, floating));

    assert.equal((await world.call({ command: "DEL", ...call })).code, 0);
    await wait("no route to it", async () => await world.host.ip(`route show ${floating}`) === "");
    await wait("no rule about it", async () => {
      const both = "iptables-nft-save -t nat; iptables-legacy-save -t nat";
      return !(await world.host.run("sh", ["-c", both])).stdout.includes(floating);
    });
  },
);

const reaches = async (from: Namespace, address: string): Promise<boolean> =>
  (await from.run("ping", ["-n", "-q", "-c", "1", "-W", "1", address])).code === 0;

async function endpoints(world: AgentWorld): Promise<{ spec: { ipNATs?: unknown } }[]> {
  const all = await world.etcd.dump("/calico/resources/v3/projectcalico.org/workloadendpoints/");
  return [...all.values()].map((text) => JSON.parse(text));
}
