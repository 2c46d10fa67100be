/** Limits that a pod's annotations ask for, tried with traffic: bandwidth both ways, packets a second, connections at a time. */
import assert from "node:assert/strict";
import { passageName } from "../../kernel/rtnetlink/bandwidth.ts";
import { type AgentWorld, machineBeside, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const key = "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/alder-k8s-cart--0-eth0";
const hostSide = "cali18582a65b10";
const call = (name: string, pod: Namespace, kubeconfig: string) => ({
  ...{ containerId: name, netns: pod.path, args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${name}` },
  config: {
    ...{
      name: "k8s-pod-network",
      cniVersion: "1.0.0",
      type: "calico",
      nodename: "alder",
      nodename_file_optional: true,
    },
    ...{ ipam: { type: "calico-ipam" }, policy: { type: "k8s" }, kubernetes: { kubeconfig } },
  },
});

Deno.test("a pod's limits hold from its first packet, follow changes, and leave nothing behind", {
  sanitizeOps: false,
  sanitizeResources: false,
}, async (t) => {
  await using world = await makeAgentWorld("wgq");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  const rules = { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] };
  await world.put({ kind: "Profile", metadata: { name: "kns.shop" }, spec: rules });
  const api = await world.api();
  await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: {} } });
  const q = (name: string) => `qos.projectcalico.org/${name}`;
  const annotations = {
    ...{ [q("ingressBandwidth")]: "40M", [q("ingressBurst")]: "400k" },
    ...{ [q("egressBandwidth")]: "20M", [q("egressBurst")]: "400k", [q("ingressMaxConnections")]: "3" },
  };
  const putPod = (name: string, annotations: Record<string, string>) =>
    api.put({
      ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "shop", labels: {}, annotations } },
      spec: { nodeName: "alder", containers: [{ name: "c" }] },
    } as never);
  await putPod("cart-0", annotations);
  await putPod("buyer", { [q("egressBandwidth")]: "much" });
  // Calico's rules let a connection that a pod of the same host began past the receiver's limits.
  const outside = await machineBeside(world);
  await world.start();
  const pod = await world.pod();
  const cni = call("cart-0", pod, api.kubeconfig);
  const address = await addressOf(world, cni);
  await addressOf(world, call("buyer", await world.pod(), api.kubeconfig));
  assert.match(world.log(), /"of":"shop\/buyer".*egressBandwidth.*much/);
  await using server = serve(pod);

  await t.step("bandwidth: what the pod receives, and what it sends", async () => {
    await server.ready(outside, address);
    for (const [reverse, most] of [[false, 40], [true, 20]] as const) {
      const got = await mbitPerS(outside, address, reverse);
      assert.ok(got > most / 2 && got < most * 1.3, `${got.toFixed(1)} of ${most} Mbit/s`);
    }
  });

  await t.step("connections: three at a time", async () => {
    assert.equal(await connectionsAtOnce(outside, address, 6), 3);
    await wait("the three to be over", async () => await connectionsAtOnce(outside, address, 1) === 1);
  });

  await t.step("changed: packets a second; the buckets are those that Calico makes of the same numbers", async () => {
    await change(world, {
      ...{ ingressBandwidth: 1_000_000, ingressBurst: 4_000_000, egressBandwidth: 2_000_000, egressBurst: 4_000_000 },
      ...{ ingressPacketRate: 40, ingressPacketBurst: 5 },
    });
    await wait("the buckets", async () => /rate 1Mbit/.test(await qdiscs(world, hostSide)));
    assert.match(await qdiscs(world, hostSide), /qdisc tbf 1: root refcnt \d+ rate 1Mbit burst 500000b lat 496s/);
    assert.match(
      await qdiscs(world, passageName(hostSide)),
      /qdisc tbf 1: root refcnt \d+ rate 2Mbit burst 500000b lat 123s/,
    );
    await wait("the rate", async () => {
      const both = "iptables-nft-save -t filter; iptables-legacy-save -t filter";
      return (await world.host.run("sh", ["-c", both])).stdout.includes("--limit 40/sec");
    });
    const received = Number(
      /(\d+) received/.exec(
        (await outside.run("ping", ["-n", "-q", "-c", "300", "-i", "0.005", "-W", "1", address])).stdout,
      )?.[1],
    );
    assert.ok(received >= 20 && received < 200, `${received} of 300 in 1.5 s at 40 a second`);
  });

  await t.step("what others take away comes back; what cannot be read limits nothing and is told", async () => {
    await world.host.ip(`link del ${passageName(hostSide)}`);
    await change(world, { egressBandwidth: 2_000_000, egressBurst: 4_000_000, ingressPacketRate: -3 });
    await wait("the passage", async () => /rate 2Mbit/.test(await qdiscs(world, passageName(hostSide))));
    await wait("no bucket", async () => !/tbf/.test(await qdiscs(world, hostSide)));
    await wait("the bad number to be told", () => world.log().includes("spec.qosControls.ingressPacketRate: -3"));
  });

  await t.step("without the pod nothing is left", async () => {
    assert.equal((await world.call({ command: "DEL", ...cni })).code, 0);
    await wait("the passage to go", async () => !/bwcali/.test(await world.host.ip("-o link")));
  });
});

/** Adds a pod. @returns its address. */
async function addressOf(world: AgentWorld, cni: ReturnType<typeof call>): Promise<string> {
  const added = await world.call({ command: "ADD", ...cni });
  assert.equal(added.code, 0, added.stdout + added.stderr);
  return (added.json as { ips: { address: string }[] }).ips[0]!.address.split("/")[0]!;
}

/** Servers of the pod: iperf3, and one that takes connections. They go with the scope. */
function serve(pod: Namespace) {
  const run = (...words: string[]) =>
    new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", "nsenter", `--net=${pod.path}`, ...words],
      ...{ stdin: "null", stdout: "null", stderr: "null" },
    }).spawn();
  const all = [run("iperf3", "-s"), run("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")];
  return {
    /** Waits until both answer. */
    async ready(from: Namespace, address: string): Promise<void> {
      for (const port of [5201, 80]) {
        await wait(
          `port ${port}`,
          async () => (await from.run("bash", ["-c", `exec 3<>/dev/tcp/${address}/${port}`])).code === 0,
        );
      }
    },
    async [Symbol.asyncDispose]() {
      for (const child of all) child.kill("SIGKILL");
      await Promise.all(all.map((child) => child.status));
    },
  };
}

/** What iperf3's receiver counted in two seconds. */
async function mbitPerS(from: Namespace, address: string, reverse: boolean): Promise<number> {
  const words = ["-c", address, "-t", "2", "-J", ...(reverse ? ["-R"] : [])];
  const { stdout } = await from.run("iperf3", words, { timeoutMs: 60_000 });
  const { end, error } = JSON.parse(stdout) as { end: { sum_received?: { bits_per_second: number } }; error?: string };
  assert.ok(end.sum_received, `${error}`);
  return end.sum_received.bits_per_second / 1e6;
}

/** Opens so many connections and holds them. @returns how many were taken. */
async function connectionsAtOnce(from: Namespace, address: string, count: number): Promise<number> {
  const script = `for i in $(seq ${count}); do exec {fd}<>/dev/tcp/${address}/80 && echo taken; done 2>/dev/null`;
  const { stdout } = await from.run("bash", ["-c", script]);
  return stdout.split("\n").filter((line) => line === "taken").length;
}

async function change(world: AgentWorld, qosControls: Record<string, number>): Promise<void> {
  const endpoint = JSON.parse((await world.etcd.dump(key)).get(key)!);
  endpoint.spec.qosControls = qosControls;
  await world.etcd.etcdctl("put", key, JSON.stringify(endpoint));
}

const qdiscs = async (world: AgentWorld, device: string): Promise<string> =>
  (await world.host.run("tc", ["qdisc", "show", "dev", device])).stdout;
