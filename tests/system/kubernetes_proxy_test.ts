/** Services, node ports and host ports: kube-proxy's and portmap's rules beside ours, and what policy sees of them. */
import { deepEqual, equal } from "node:assert/strict";
import { keepArtefacts } from "../lab/artefacts.ts";
import type { Host, HostProcess } from "../lab/host.ts";
import { startKubeProxy } from "../lab/kube_proxy.ts";
import { apiKind, type ControlPlane, kubernetesBinaries } from "../lab/kubernetes.ts";
import { type KubernetesCluster, makeKubernetesCluster, type RunningPod } from "../lab/kubernetes_cluster.ts";
import { wait } from "../lab/wait.ts";

const proxyKind = kubernetesBinaries ? "real kube-proxy" : "recorded rules of kube-proxy";
const cluster = { address: "10.96.7.7", nodePort: 30080, hostPort: 8081 };
const service = {
  ...{ apiVersion: "v1", kind: "Service", metadata: { name: "web", namespace: "shop" } },
  spec: {
    ...{ type: "NodePort", selector: { app: "web" }, clusterIP: cluster.address },
    ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 80, nodePort: cluster.nodePort }],
  },
};

/** What kube-proxy writes with: on one host the variant that the agent has, before its rules; on the other the other one. */
const variantOf = (host: Host) => (host.name === "h1" ? "legacy" : "nft");

/** Begins kube-proxy, or loads what one wrote for this Service with one pod; again it may be called. */
async function proxy(host: Host, lab: KubernetesCluster, pod: string): Promise<HostProcess | undefined> {
  const variant = variantOf(host);
  if (kubernetesBinaries) return await startKubeProxy(host, lab.api as unknown as ControlPlane, variant);
  const recorded = await Deno.readTextFile(new URL("../golden/kube_proxy/rules.txt", import.meta.url));
  // It prepends its jumps.
  const rules = recorded.replaceAll("POD", pod).replace(/^-A (?=[A-Z]+ )(?!KUBE)/gm, "-I ");
  await host.runOk(`iptables-${variant}-restore`, ["--noflush"], { stdin: rules });
}

/** Rules whose words match, of both variants, in order. */
async function rules(host: Host, of: RegExp): Promise<string[]> {
  // The order in which tables are shown changes.
  const tables = ["raw", "mangle", "nat", "filter"].flatMap((t) => [["nft", t], ["legacy", t]] as const);
  const all = await Promise.all(tables.map(([v, table]) => host.runOk(`iptables-${v}-save`, ["-t", table])));
  const lines = all.join("\n").split("\n").filter((line) => line.startsWith("-A") && of.test(line));
  return lines.filter((line) => !/CANARY/.test(line));
}

/** What is in one of two lists and not in the other. */
const changed = (before: string[], after: string[]): string[] => [
  ...before.filter((line) => !after.includes(line)).map((line) => `gone: ${line}`),
  ...after.filter((line) => !before.includes(line)).map((line) => `new: ${line}`),
];

const policy = (name: string, spec: unknown): string => {
  const kind = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" };
  return JSON.stringify({ ...kind, metadata: { name, namespace: "shop" }, spec });
};
const ingress = (...from: unknown[]) => ({
  ...{ podSelector: { matchLabels: { app: "web" } }, policyTypes: ["Ingress"] },
  ingress: [{ from, ports: [{ protocol: "TCP", port: 80 }] }],
});

const hostPolicy = (action: string): string => `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h1-eth0, labels: {role: node}}
spec: {node: h1, interfaceName: eth0, profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: node-ports}
spec:
  selector: role == 'node'
  order: 10
  preDNAT: true
  applyOnForward: true
  types: [Ingress]
  ingress:
  - {action: ${action}, protocol: TCP, source: {nets: [172.30.0.1/32]}, destination: {ports: [${cluster.nodePort}]}}
  - {action: Allow}
`;

Deno.test(`policy beside kube-proxy and portmap (${apiKind}, ${proxyKind})`, async (t) => {
  await using lab = await makeKubernetesCluster(2, "k8");
  const [h1, h2] = lab.lab.hosts as [Host, Host];
  const step = (name: string, work: () => Promise<void>) =>
    t.step(name, () =>
      work().catch(async (error) => {
        console.error(`what was there is kept in ${await keepArtefacts("k8", lab.lab)}`);
        throw error;
      }));
  for (const name of ["shop", "guests"]) {
    await lab.api.apply(JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: {} } }));
  }
  const [web, front, guest] = await Promise.all([
    lab.run({ namespace: "shop", name: "web", labels: { app: "web" }, host: "h1", hostPort: cluster.hostPort }),
    lab.run({ namespace: "shop", name: "front", labels: { role: "client" }, host: "h2" }),
    lab.run({ namespace: "guests", name: "guest", labels: {}, host: "h2" }),
  ]);
  await lab.api.apply(JSON.stringify(service));
  let proxies = await Promise.all([h1, h2].map((host) => proxy(host, lab, web.ip)));
  const places = {
    service: `${cluster.address}:80`,
    nodePort: `${h1.address}:${cluster.nodePort}`,
    nodePortElsewhere: `${h2.address}:${cluster.nodePort}`,
    hostPort: `${h1.address}:${cluster.hostPort}`,
  };
  type Way = [place: keyof typeof places, from?: RunningPod];
  /** Waits until exactly these ways lead to the pod, of all that there are. */
  const open = async (...ways: Way[]) => {
    const all: Way[] = [["service", front], ["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]];
    const named = ([place, from]: Way) => `${from?.name ?? "outside"} > ${place}`;
    let found: string[] = [];
    await wait("ways to the pod", async () => {
      const answers = await Promise.all(all.map(([place, from]) => lab.answers(places[place], from)));
      found = all.filter((_, i) => answers[i] === "web").map(named);
      return found.join() === ways.map(named).join();
    }, { deadlineMs: 15_000, everyMs: 50 }).catch(() => deepEqual(found, ways.map(named)));
  };

  await step(
    "a Service, its node port on both nodes, and a host port lead to the pod",
    () => open(["service", front], ["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]),
  );
  await step(
    "policy of the pod sees the client behind the Service's address, and shuts node and host ports too",
    async () => {
      await lab.api.apply(policy("web", ingress({ podSelector: { matchLabels: { role: "client" } } })));
      await open(["service", front]);
    },
  );
  await step("an ipBlock sees the client where its packet comes in, and the node where it is passed on", async () => {
    await lab.api.apply(policy("web", ingress({ ipBlock: { cidr: "172.30.0.1/32" } })));
    await open(["nodePort"], ["hostPort"]);
    await lab.api.apply(policy("web", ingress({ ipBlock: { cidr: `${h2.address}/32` } })));
    await open(["nodePortElsewhere"]);
    await lab.api.delete("networkpolicies", "shop", "web");
  });
  await step("policy of the client sees the pod behind the Service's address", async () => {
    const spec = (app: string) => ({
      ...{ podSelector: { matchLabels: { role: "client" } }, policyTypes: ["Egress"] },
      egress: [{ to: [{ podSelector: { matchLabels: { app } } }], ports: [{ protocol: "TCP", port: 80 }] }],
    });
    await lab.api.apply(policy("front", spec("other")));
    await open(["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]);
    await lab.api.apply(policy("front", spec("web")));
    await open(["service", front], ["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]);
  });
  await step("preDNAT policy of a host shuts its node port, and nothing else", async () => {
    const apply = async (text: string) => {
      await Deno.writeTextFile(`${h1.dir}/policy.yaml`, text);
      await lab.nodes[0]!.ctl("apply", "-f", `${h1.dir}/policy.yaml`);
    };
    await apply(hostPolicy("Deny"));
    await open(["service", front], ["service", guest], ["nodePortElsewhere"], ["hostPort"]);
    await apply(hostPolicy("Allow"));
    await open(["service", front], ["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]);
  });
  await step("a restart of either leaves the other's rules alone", async () => {
    const theirs = /KUBE-|CNI-/, ours = /-[AN] cali-|-j cali-/;
    const before = await Promise.all([rules(h1, theirs), rules(h1, ours)]);
    equal(before.every((lines) => lines.length > 10), true, JSON.stringify(before.map((lines) => lines.length)));
    await lab.nodes[0]!.process.kill("SIGKILL");
    await lab.nodes[0]!.start();
    deepEqual(changed(before[0], await rules(h1, theirs)), []);
    await proxies[0]?.kill("SIGKILL");
    proxies = [await proxy(h1, lab, web.ip)];
    await open(["service", front], ["service", guest], ["nodePort"], ["nodePortElsewhere"], ["hostPort"]);
    deepEqual(changed(before[1], await rules(h1, ours)), []);
  });
});
