/** Start-up against a real etcd: what an empty datastore holds afterwards, starting again, many at once, dying half way. */
import assert from "node:assert/strict";
import { systemClock } from "../../lib/clock.ts";
import { parseIp, tryParseNet } from "../../lib/ip.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { Resources } from "../../datastore/resources.ts";
import type { Store, Txn } from "../../datastore/store.ts";
import type { LocalInterface } from "../../node/interfaces.ts";
import { readSettings } from "../../node/settings.ts";
import { startUp, type StartUpParts } from "../../node/startup.ts";
import { kubernetesFacts } from "../../node/kubernetes_facts.ts";
import { serveApi } from "../lab/api_server.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";

const prefix = "/calico/resources/v3/projectcalico.org/";

const interfaceOf = (address: string): LocalInterface => ({
  name: "eth0",
  index: 2,
  up: true,
  addresses: [tryParseNet(address)!],
  defaultRoute: [4],
});

function partsOf(store: Store, node: string, env: Record<string, string> = {}, more: Partial<StartUpParts> = {}) {
  return {
    node,
    store,
    resources: new Resources(store),
    settings: readSettings({ env }),
    interfaces: [interfaceOf("192.0.2.2/24")],
    kernelHasIpv6: true,
    clock: systemClock,
    log: silentLog,
    random: Math.random,
    ...more,
  };
}

const open = (etcd: Etcd): Store =>
  openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 3000 }, { clock: systemClock, log: silentLog });

Deno.test("an empty datastore holds afterwards exactly what Calico's start-up writes, without its version", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const env = { IP: "autodetect", CALICO_IPV4POOL_IPIP: "Always", CLUSTER_TYPE: "k8s,bgp" };
  const done = await startUp(partsOf(store, "alpha", env));
  const values = await etcd.dump("/calico/");
  assert.deepEqual(
    [...values.keys()].sort(),
    [
      "bgpconfigurations/default",
      "clusterinformations/default",
      "felixconfigurations/default",
      "felixconfigurations/node.alpha",
      "ipamconfigurations/default",
      "ippools/default-ipv4-ippool",
      "ippools/default-ipv6-ippool",
      "nodes/alpha",
      "tiers/default",
      "tiers/kube-admin",
      "tiers/kube-baseline",
    ].map((name) => prefix + name),
  );
  const specs = Object.fromEntries(
    [...values].map(([key, value]) => [key.slice(prefix.length), JSON.parse(value).spec]),
  );
  const v6 = specs["ippools/default-ipv6-ippool"].cidr;
  assert.match(v6, /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/48$/);
  const guid = specs["clusterinformations/default"].clusterGUID;
  assert.match(guid, /^[0-9a-f]{32}$/);
  const felix = {
    nftablesMode: "Auto",
    nftablesFlowTableOffload: "Disabled",
    bpfLogLevel: "",
    bpfConnectTimeLoadBalancing: "TCP",
    bpfHostNetworkedNATWithoutCTLB: "Enabled",
    floatingIPs: "Disabled",
  };
  const pool = {
    vxlanMode: "Never",
    nodeSelector: "all()",
    allowedUses: ["Workload", "Tunnel"],
    assignmentMode: "Automatic",
  };
  assert.deepEqual(specs, {
    "bgpconfigurations/default": { logSeverityScreen: "Info", serviceLoadBalancerAggregation: "Enabled" },
    "clusterinformations/default": { clusterGUID: guid, clusterType: "k8s,bgp", datastoreReady: true },
    "felixconfigurations/default": { logSeverityScreen: "Info", reportingInterval: "0s", ...felix },
    "felixconfigurations/node.alpha": { defaultEndpointToHostAction: "Return", ...felix },
    "ipamconfigurations/default": {
      strictAffinity: false,
      autoAllocateBlocks: true,
      kubeVirtVMAddressPersistence: "Enabled",
    },
    "ippools/default-ipv4-ippool": {
      cidr: "192.168.0.0/16",
      ipipMode: "Always",
      natOutgoing: true,
      blockSize: 26,
      ...pool,
    },
    "ippools/default-ipv6-ippool": { cidr: v6, ipipMode: "Never", blockSize: 122, ...pool },
    "nodes/alpha": { bgp: { ipv4Address: "192.0.2.2/24" }, interfaces: [{ name: "eth0", addresses: ["192.0.2.2"] }] },
    "tiers/default": { order: 1000000, defaultAction: "Deny" },
    "tiers/kube-admin": { order: 1000, defaultAction: "Pass" },
    "tiers/kube-baseline": { order: 10000000, defaultAction: "Pass" },
  });
  assert.equal(done.created.length, 11);
  assert.deepEqual(done.updated, []);
});

Deno.test("a second start writes nothing, and leaves another's calicoVersion alone", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const parts = partsOf(store, "alpha", { IP: "autodetect", CLUSTER_TYPE: "bgp" });
  await startUp(parts);
  const information = await parts.resources.get("ClusterInformation", "default");
  await parts.resources.update({ ...information, spec: { ...information.spec, calicoVersion: "v3.31.0" } });
  const before = (await store.status()).revision;
  const again = await startUp(parts);
  assert.deepEqual([again.created, again.updated], [[], []]);
  assert.equal(again.node?.spec.bgp?.ipv4Address, "192.0.2.2/24");
  assert.equal((await store.status()).revision, before);
});

Deno.test("thirty nodes that start at once all come up, with one cluster id and one pool of each family", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const nodes = Array.from({ length: 30 }, (_, i) => ({ name: `n${i}`, address: `192.0.2.${i + 1}/24` }));
  const results = await Promise.all(
    nodes.map(({ name, address }) =>
      startUp(partsOf(store, name, { CLUSTER_TYPE: `k8s,${name}` }, { interfaces: [interfaceOf(address)] }))
    ),
  );
  const created = results.flatMap((r) => r.created).sort();
  assert.equal(new Set(created).size, created.length, "no object was created twice");
  const resources = new Resources(store);
  assert.equal((await resources.list("Node")).items.length, 30);
  assert.equal((await resources.list("IPPool")).items.length, 2);
  const words = String((await resources.get("ClusterInformation", "default")).spec.clusterType).split(",");
  assert.deepEqual(words.toSorted(), ["k8s", ...nodes.map((n) => n.name)].toSorted(), "no node's word was lost");
});

/** A store that fails once it has written `writes` times, as if the process had died there. */
function dyingAfter(writes: number, store: Store): Store {
  let left = writes;
  return new Proxy(store, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name === "txn") {
        return async (txn: Txn) => {
          if (left-- <= 0) throw new Error("the process died");
          return await target.txn(txn);
        };
      }
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

Deno.test("a start that dies after any write is completed by the next one", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const specs = async () =>
    [...await etcd.dump(prefix)].map(([key, value]) => [key, JSON.parse(value).spec]).map(([key, spec]) =>
      JSON.stringify([key, { ...spec, clusterGUID: undefined, cidr: String(spec.cidr ?? "").replace(/^fd.*/, "ULA") }])
    ).sort();
  const steps: string[][] = [];
  for (let writes = 0; writes <= 11; writes++) {
    await store.txn({ compare: [], write: [...(await etcd.dump(prefix)).keys()].map((key) => ({ delete: key })) });
    const started = startUp(partsOf(dyingAfter(writes, store), "alpha"));
    if (writes < 11) await assert.rejects(started, /the process died/);
    else await started;
    assert.equal((await etcd.dump(prefix)).size, writes);
    const { created } = await startUp(partsOf(store, "alpha"));
    assert.equal(created.length, 11 - writes);
    steps.push(await specs());
  }
  for (const step of steps) assert.deepEqual(step, steps[0]);
});

Deno.test("an address that another node has is refused before anything of the Node is written", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  await startUp(partsOf(store, "alpha"));
  const before = await etcd.dump(prefix);
  await assert.rejects(startUp(partsOf(store, "beta")), (error) => {
    assert.ok(error instanceof Problem);
    assert.equal(error.code, "conflict");
    assert.match(error.what, /Calico node 'alpha' is already using the IPv4 address 192\.0\.2\.2/);
    return true;
  });
  assert.deepEqual(await etcd.dump(prefix), before);
  await startUp(partsOf(store, "beta", { DISABLE_NODE_IP_CHECK: "true" }));
  const moved = partsOf(store, "gamma", {}, { interfaces: [interfaceOf("192.0.2.9/24")] });
  await startUp(moved);
  const clash = partsOf(store, "gamma", { IP: "192.0.2.2/24" });
  await assert.rejects(startUp(clash), Problem);
  const gamma = await clash.resources.get("Node", "gamma");
  assert.deepEqual(gamma.spec.bgp, { ipv4Address: "192.0.2.9/24" }, "the working address is not cleared");
});

Deno.test("the nodename file is written at each start, and a rename is explained where it clashes", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const folder = await Deno.makeTempDir({ prefix: "h8-" });
  try {
    const nodenameFile = `${folder}/calico/nodename`;
    await startUp(partsOf(store, "alpha", {}, { nodenameFile, folders: [`${folder}/run`] }));
    assert.equal(await Deno.readTextFile(nodenameFile), "alpha", "no line break at the end");
    assert.equal((await Deno.stat(`${folder}/run`)).mode! & 0o777, 0o755);
    await assert.rejects(
      startUp(partsOf(store, "renamed", {}, { nodenameFile })),
      /This host was called 'alpha' before/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a setting that is not understood leaves the datastore empty, and names itself", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const bad: Record<string, string>[] = [
    { AS: "70000.1" },
    { IP: "300.1.1.1" },
    { IP_AUTODETECTION_METHOD: "best" },
    { CALICO_IPV4POOL_IPIP: "sometimes" },
    { CALICO_IPV4POOL_CIDR: "10.0.0.0/33" },
    { IP: "none" },
  ];
  for (const env of bad) {
    const name = Object.keys(env)[0]!;
    await assert.rejects(startUp(partsOf(store, "alpha", env)), (error) => {
      assert.ok(error instanceof Problem, String(error));
      assert.ok(error.where?.includes(name), error.message);
      return error.code === "bad-input";
    });
    assert.equal((await etcd.dump("/")).size, 0, name);
  }
});

Deno.test("backend none writes no Node; the log tells what is unknown and how an address was found", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const lines: string[] = [];
  const log = createLog("node", { write: (line) => void lines.push(line) });
  const env = { CALICO_NETWORKING_BACKEND: "none", CALICO_IPV4_POOL: "10.0.0.0/8" };
  const { node } = await startUp(partsOf(store, "alpha", env, { log }));
  assert.equal(node, undefined);
  assert.equal((await etcd.dump(`${prefix}nodes/`)).size, 0);
  assert.ok(lines.some((line) => line.includes("CALICO_IPV4_POOL") && line.includes("there is no such setting")));
  lines.length = 0;
  await startUp(partsOf(store, "alpha", {}, { log, sourceAddress: () => Promise.resolve(parseIp("192.0.2.2")) }));
  const told = lines.map((line) => JSON.parse(line)).find((line) => line.msg === "address detected");
  assert.equal(told.reason, "eth0 has the default route");
  assert.deepEqual(told.considered, ["eth0: 192.0.2.2/24, default route"]);
});

Deno.test("a pool that cannot be read keeps start-up from making pools beside it", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  await store.txn({ compare: [], write: [{ put: `${prefix}ippools/broken`, value: '{"spec":{"cidr":7}}' }] });
  const { created } = await startUp(partsOf(store, "alpha"));
  assert.deepEqual(created.filter((name) => name.startsWith("IPPool")), []);
});

Deno.test("WAIT_FOR_DATASTORE waits for an etcd that is not there yet; without it the start fails", async () => {
  await using etcd = await startEtcd();
  await etcd.kill();
  await using store = open(etcd);
  await assert.rejects(startUp(partsOf(store, "alpha")), (e) => e instanceof Problem && e.code === "unavailable");
  let waited!: () => void;
  const waiting = new Promise<void>((resolve) => waited = resolve);
  const log = createLog("node", { write: (line) => line.includes("waiting for the datastore") && waited() });
  const started = startUp(partsOf(store, "alpha", { WAIT_FOR_DATASTORE: "true" }, { log }));
  await waiting;
  await etcd.restart();
  assert.equal((await started).created.length, 11);
});

Deno.test("Kubernetes tells the InternalIP, kubeadm's pod range and what the cluster is made with", async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd);
  const dir = await Deno.makeTempDir({ prefix: "h8-" });
  try {
    await using api = await serveApi(dir);
    await api.put({
      kind: "Node",
      metadata: { name: "k1" },
      status: { addresses: [{ type: "Hostname", address: "k1" }, { type: "InternalIP", address: "192.0.2.7" }] },
    });
    const settings = readSettings({
      env: {
        KUBECONFIG: api.kubeconfig,
        IP_AUTODETECTION_METHOD: "kubernetes-internal-ip",
        CALICO_K8S_NODE_REF: "k1",
        CLUSTER_TYPE: "bgp",
      },
    });
    using kubernetes = await kubernetesFacts(settings, silentLog);
    assert.deepEqual(await kubernetes!.configMap("kubeadm-config"), undefined, "it does not exist");
    await api.put({
      kind: "ConfigMap",
      metadata: { name: "kubeadm-config", namespace: "kube-system" },
      data: { ClusterConfiguration: "networking:\n  podSubnet: 10.244.0.0/16\n" },
    });
    const interfaces = [interfaceOf("192.0.2.2/24"), { ...interfaceOf("192.0.2.7/25"), name: "eth1", index: 3 }];
    const parts = partsOf(store, "alpha", {}, { settings, kubernetes, interfaces });
    const { node } = await startUp(parts);
    assert.equal(node?.spec.bgp?.ipv4Address, "192.0.2.7/25");
    assert.deepEqual(node?.spec.orchRefs, [{ nodeName: "k1", orchestrator: "k8s" }]);
    assert.equal((await parts.resources.get("IPPool", "default-ipv4-ippool")).spec.cidr, "10.244.0.0/16");
    assert.equal((await parts.resources.get("ClusterInformation", "default")).spec.clusterType, "bgp,kubeadm");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
