import assert from "node:assert/strict";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";
import type { Etcd } from "../lab/etcd.ts";
import { endpoint, giveAddress, inWorld, objectOf, pod, resourcesOf, v3, valueOf } from "./_controllers_world.ts";

const meta = { uid: endpoint.metadata.uid, creationTimestamp: endpoint.metadata.creationTimestamp };
const put = (etcd: Etcd, key: string, value: unknown) => etcd.etcdctl("put", key, JSON.stringify(value));
const node = (name: string, spec: Record<string, unknown> = {}, labels: Record<string, string> = {}) => ({
  ...{ kind: "Node", apiVersion: "projectcalico.org/v3", metadata: { name, ...meta, labels } },
  spec: { orchRefs: [{ nodeName: name, orchestrator: "k8s" }], ...spec },
});
const nodeA = node("node-a", {
  ...{ bgp: { ipv4Address: "10.0.0.1/24", ipv4IPIPTunnelAddr: "192.168.0.1" }, ipv4VXLANTunnelAddr: "192.168.0.2" },
  addresses: [{ address: "10.0.0.1", type: "InternalIP" }, { address: "203.0.113.5", type: "ExternalIP" }],
  interfaces: [{ name: "eth0", addresses: ["10.0.0.1"] }, { name: "eth1", addresses: ["172.16.0.5", "nonsense"] }],
}, { rack: "r1" });
const configurationKey = `${v3}/kubecontrollersconfigurations/default`;
const configuration = (node: Record<string, unknown>, more: Record<string, unknown> = {}) => ({
  ...{
    kind: "KubeControllersConfiguration",
    apiVersion: "projectcalico.org/v3",
    metadata: { name: "default", ...meta },
  },
  spec: { prometheusMetricsPort: 0, ...more, controllers: { node } },
});

Deno.test("host endpoints are made as the settings ask, live, and by templates", () =>
  inWorld(async ({ etcd, api, start }) => {
    await api.put({ kind: "Node", metadata: { name: "node-a", labels: { rack: "r1" } } });
    await put(etcd, `${v3}/nodes/node-a`, nodeA);
    await put(etcd, `${v3}/nodes/bare-1`, node("bare-1", { bgp: { ipv4Address: "10.0.0.9/24" }, orchRefs: undefined }));
    const users = {
      ...{ kind: "HostEndpoint", apiVersion: "projectcalico.org/v3", metadata: { name: "users", ...meta } },
      spec: { node: "node-a", interfaceName: "eth9" },
    };
    await put(etcd, `${v3}/hostendpoints/users`, users);
    await put(etcd, configurationKey, configuration({ hostEndpoint: { autoCreate: "Enabled" } }));
    await using first = await start().works();
    const key = (name: string) => `${v3}/hostendpoints/${name}`;
    const made = await wait("the default one", () => objectOf(etcd, key("node-a-auto-hep")));
    assert.deepEqual(made.spec, {
      ...{ node: "node-a", interfaceName: "*", profiles: ["projectcalico-default-allow"] },
      expectedIPs: ["10.0.0.1", "192.168.0.1", "192.168.0.2", "172.16.0.5"],
    });
    assert.deepEqual(made.metadata.labels, { rack: "r1", "projectcalico.org/created-by": "calico-kube-controllers" });
    await wait("that of a node which is none of Kubernetes", () => valueOf(etcd, key("bare-1-auto-hep")));

    const templates = [
      {
        ...{
          generateName: "nic",
          interfacePattern: "eth.*",
          interfaceCIDRs: ["10.0.0.0/24"],
          nodeSelector: "rack == 'r1'",
        },
        ...{ labels: { role: "edge" }, annotations: { a: "b" } },
      },
      { generateName: "mgmt", interfaceCIDRs: ["172.16.0.0/16"], nodeSelector: "all()" },
    ];
    const hostEndpoint = { autoCreate: "Enabled", createDefaultHostEndpoint: "Disabled", templates };
    await put(etcd, configurationKey, configuration({ hostEndpoint }));
    const nic = await wait("a template's", () => objectOf(etcd, key("node-a-nic-eth1-auto-hep")));
    assert.deepEqual(nic.spec.expectedIPs, ["10.0.0.1", "172.16.0.5"]);
    assert.deepEqual([nic.metadata.labels.role, nic.metadata.annotations], ["edge", { a: "b" }]);
    const names = async () =>
      [...(await etcd.dump(`${v3}/hostendpoints/`)).keys()].map((k) => k.slice(k.lastIndexOf("/") + 1)).sort();
    const wanted = ["node-a-mgmt-auto-hep", "node-a-nic-eth0-auto-hep", "node-a-nic-eth1-auto-hep", "users"];
    await wait("the others", async () => (await names()).join() === wanted.join());

    // Somebody spoils one, and deletes one.
    await put(etcd, key("node-a-mgmt-auto-hep"), {
      ...nic,
      metadata: { ...nic.metadata, name: "node-a-mgmt-auto-hep" },
    });
    await wait("the repair", async () => !(await objectOf(etcd, key("node-a-mgmt-auto-hep"))).spec.interfaceName);
    await etcd.etcdctl("del", key("node-a-nic-eth0-auto-hep"));
    await wait("it to come back", () => valueOf(etcd, key("node-a-nic-eth0-auto-hep")));
    assert.equal(await first.end("SIGTERM"), 0);

    const before = await resourcesOf(etcd);
    await using second = await start({ SYNC_NODE_LABELS: "false" }).works();
    await wait(
      "the status to name the variable",
      async () => (await objectOf(etcd, configurationKey)).status.environmentVars.SYNC_NODE_LABELS === "false",
    );
    await api.put({ kind: "Node", metadata: { name: "node-a", labels: { rack: "r2" } } });
    await wait("the lists", () => /"nodes".*"listed"|"listed".*nodes/.test(second.text));
    assert.deepEqual(
      (await resourcesOf(etcd)).filter((line) => !line.includes("kubecontrollers")),
      before.filter((line) => !line.includes("kubecontrollers")),
      "nothing else was written",
    );
    await put(etcd, configurationKey, configuration({ hostEndpoint: { autoCreate: "Disabled" } }));
    await wait("ours to go", async () => (await names()).join() === "users");
  }));

Deno.test("the settings are made when they are missing, say what is in force, and switch controllers on and off", () =>
  inWorld(async ({ etcd, api, start }) => {
    const [metrics] = freePorts(1);
    await using instance = await start().works();
    const made = await wait("the resource", () => objectOf(etcd, configurationKey));
    assert.equal(made.spec.controllers.node.leakGracePeriod, "15m0s");
    assert.equal(made.status.runningConfig.controllers.loadBalancer.assignIPs, "AllServices");
    await api.put({ kind: "Namespace", metadata: { name: "a" } });
    await wait("the profile", () => valueOf(etcd, `${v3}/profiles/kns.a`));

    const only = {
      ...made,
      spec: { ...made.spec, prometheusMetricsPort: metrics, controllers: { serviceAccount: {} } },
    };
    await put(etcd, configurationKey, only);
    await wait(
      "the status",
      async () => !(await objectOf(etcd, configurationKey)).status.runningConfig.controllers.namespace,
    );
    await api.put({ kind: "Namespace", metadata: { name: "b" } });
    await api.put({ kind: "ServiceAccount", metadata: { name: "x", namespace: "b" } });
    await wait("the account's profile", () => valueOf(etcd, `${v3}/profiles/ksa.b.x`));
    assert.equal(await valueOf(etcd, `${v3}/profiles/kns.b`), undefined, "its controller is off");
    assert.ok(await valueOf(etcd, `${v3}/profiles/kns.a`), "what it wrote stays");
    const text = await wait("metrics", async () => await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text());
    assert.match(text, /^tortie_controller_writes_total\{controller="serviceaccount"\} 1$/m);
    assert.match(text, /^tortie_kubernetes_connected\{resource="serviceaccounts"\} 1$/m);
    await put(etcd, configurationKey, {
      ...only,
      spec: { ...only.spec, prometheusMetricsPort: 0, controllers: { namespace: {} } },
    });
    await wait("what was missed", () => valueOf(etcd, `${v3}/profiles/kns.b`));
    await wait("the port to close", () => fetch(`http://127.0.0.1:${metrics}/metrics`).then(() => false, () => true));
    await etcd.etcdctl("del", configurationKey);
    await wait("the resource to come back", () => valueOf(etcd, configurationKey));
    assert.equal(await instance.end("SIGTERM"), 0);
  }));

Deno.test("addresses that no pod has are released after the grace period, whole handles only, and never a pod's", () =>
  inWorld(async ({ etcd, api, start }) => {
    const block = "/calico/ipam/v2/assignment/ipv4/block/192.168.0.0-26";
    await put(etcd, `${v3}/nodes/node-a`, nodeA);
    await api.put({ kind: "Node", metadata: { name: "node-a" } });
    await api.put(pod({}, "192.168.0.7"));
    await giveAddress(etcd);
    const stored = await objectOf(etcd, block);
    // 8: a pod that is gone. 9 and 10: one handle, of which 10 is a pod's that has no address yet. 11: a tunnel's.
    const owners = [
      { handle_id: "k8s-pod-network.ghost", secondary: { namespace: "production", node: "node-a", pod: "ghost" } },
      { handle_id: "k8s-pod-network.both", secondary: { namespace: "production", node: "node-a", pod: "ghost" } },
      { handle_id: "k8s-pod-network.both", secondary: { namespace: "production", node: "node-a", pod: "starting" } },
      { handle_id: "ipip-tunnel-addr-node-a", secondary: { node: "node-a", type: "ipipTunnelAddress" } },
    ];
    for (const [i, owner] of owners.entries()) {
      stored.allocations[8 + i] = stored.attributes.push(owner) - 1;
      stored.sequenceNumberForAllocation[8 + i] = 1;
      stored.unallocated = stored.unallocated.filter((o: number) => o !== 8 + i);
    }
    await put(etcd, block, stored);
    await put(etcd, "/calico/ipam/v2/handle/k8s-pod-network.ghost", { block: { "192.168.0.0/26": 1 }, deleted: false });
    await put(etcd, "/calico/ipam/v2/handle/k8s-pod-network.both", { block: { "192.168.0.0/26": 2 }, deleted: false });
    await put(etcd, "/calico/ipam/v2/handle/k8s-pod-network.stale", {
      block: { "192.168.0.64/26": 1 },
      deleted: false,
    });
    await api.put({
      kind: "Pod",
      metadata: { name: "starting", namespace: "production" },
      spec: { nodeName: "node-a" },
    });
    const [metrics] = freePorts(1);
    await put(etcd, configurationKey, configuration({ leakGracePeriod: "2s" }, { prometheusMetricsPort: metrics }));
    // While Kubernetes does not say for sure that a pod is gone, nothing is released.
    api.fail(/ \/api\/v1\/namespaces\/production\/pods\/ghost/, () => new Response("overloaded", { status: 500 }));
    await using instance = await start().works();
    const metric = async (line: string) =>
      (await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text()).split("\n").includes(line);
    const label = '{ippool="pods",node="node-a"}';
    await wait("two candidates", () => metric(`ipam_allocations_gc_candidates${label} 2`));
    const given = async () =>
      (await objectOf(etcd, block))?.allocations.flatMap((a: unknown, i: number) => a === null ? [] : [i]);
    await wait(
      "the doubt to be told",
      () => /Kubernetes does not say whether it is there: HTTP 500/.test(instance.text),
    );
    assert.equal((await given()).join(), "7,8,9,10,11");
    api.fail();
    await wait("the pod's that is gone to be free", async () => (await given()).join() === "7,9,10,11");
    assert.equal(await valueOf(etcd, "/calico/ipam/v2/handle/k8s-pod-network.ghost"), undefined);
    await wait(
      "the stale handle to go",
      async () => !await valueOf(etcd, "/calico/ipam/v2/handle/k8s-pod-network.stale"),
    );
    await wait("the count", () => metric(`ipam_allocations_gc_reclamations${label} 1`));
    assert.ok(await metric(`ipam_allocations_in_use${label} 4`));
    assert.ok(await metric('ipam_ippool_size{ippool="pods"} 65536'));

    // The other pod of the handle got another address: now nobody has either.
    await api.put({
      ...{ kind: "Pod", metadata: { name: "starting", namespace: "production" }, spec: { nodeName: "node-a" } },
      status: { podIP: "192.168.0.33", podIPs: [{ ip: "192.168.0.33" }] },
    });
    await wait("the whole handle to go", async () => (await given()).join() === "7,11", { deadlineMs: 15_000 });

    // The node goes without its Node resource's knowing of Kubernetes: its live pod keeps everything.
    await etcd.etcdctl("del", `${v3}/nodes/node-a`);
    await wait("a look", () => metric('ipam_blocks_per_node{node="node-a"} 1'));
    assert.equal((await given()).join(), "7,11");
    await api.delete("pods", "production", "customer");
    await api.delete("nodes", undefined, "node-a");
    await wait("all of the node to go", async () => (await etcd.dump("/calico/ipam/v2/")).size === 0).catch(
      async (error) => {
        throw new Error(`${error.message}: ${[...(await etcd.dump("/calico/ipam/v2/")).keys()]}\n${instance.text}`);
      },
    );
  }));
