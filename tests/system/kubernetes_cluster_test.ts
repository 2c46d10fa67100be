/** A cluster from the pods' side: what kubectl changes is what packets may do. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { keepArtefacts } from "../lab/artefacts.ts";
import type { Host } from "../lab/host.ts";
import type { ControlPlane } from "../lab/kubernetes.ts";
import { apiKind, kubernetesBinaries } from "../lab/kubernetes.ts";
import { type KubernetesCluster, makeKubernetesCluster, type RunningPod } from "../lab/kubernetes_cluster.ts";
import { wait } from "../lab/wait.ts";

/** Keys of Calico's datastore, by what stands behind the kind. */
async function names(cluster: KubernetesCluster, kind: string): Promise<string[]> {
  const prefix = `/calico/resources/v3/projectcalico.org/${kind}/`;
  return [...(await cluster.etcd.dump(prefix)).keys()].map((key) => key.slice(prefix.length)).sort();
}

/** Waits until a pod reaches another, or does not, and answers how long that took. */
async function becomes(cluster: KubernetesCluster, from: RunningPod, to: RunningPod, open: boolean): Promise<number> {
  const began = performance.now();
  await wait(`${from.name} to ${open ? "reach" : "reach no more"} ${to.name}`, async () => {
    return await cluster.reaches(from, to) === open;
  }, { deadlineMs: 20_000, everyMs: 20 });
  return Math.round(performance.now() - began);
}

/** Whether the host's agent is told of pods and namespaces. */
async function follows(host: Host): Promise<boolean> {
  const words = ["-fsS", "--unix-socket", "/run/tortie/agent.sock", "http://agent/v1/status"];
  const { kubernetes } = JSON.parse(await host.runOk("curl", words)) as {
    kubernetes: Record<"pods" | "namespaces", { connected: boolean }>[];
  };
  return kubernetes.length > 0 && kubernetes.every(({ pods, namespaces }) => pods.connected && namespaces.connected);
}

const policy = (name: string, spec: unknown): string =>
  JSON.stringify({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace: "shop" },
    spec,
  });

const webFrom = (...from: unknown[]) => ({
  ...{ podSelector: { matchLabels: { app: "web" } }, policyTypes: ["Ingress"] },
  ingress: [{ from, ports: [{ protocol: "TCP", port: 80 }] }],
});

Deno.test(`pods of a cluster: policies, labels, namespaces, a lost API server, a node that goes (${apiKind})`, async (t) => {
  await using cluster = await makeKubernetesCluster(2, "k8");
  const { api } = cluster, plane = api as unknown as ControlPlane;
  const step = (name: string, work: () => Promise<void>) =>
    t.step(name, () =>
      work().catch(async (error) => {
        console.error(`what was there is kept in ${await keepArtefacts("k8", cluster.lab)}`);
        throw error;
      }));
  const timings: string[] = [];
  for (const name of ["shop", "guests"]) {
    await api.apply(JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: {} } }));
  }
  let web: RunningPod, front: RunningPod, guest: RunningPod;

  await step("pods start on both hosts and reach each other", async () => {
    await wait("the profiles of the namespaces", async () => (await names(cluster, "profiles")).includes("kns.guests"));
    [web, front, guest] = await Promise.all([
      cluster.run({ namespace: "shop", name: "web", labels: { app: "web" }, host: "h1" }),
      cluster.run({ namespace: "shop", name: "front", labels: { app: "front" }, host: "h2" }),
      cluster.run({ namespace: "guests", name: "guest", labels: { app: "guest" }, host: "h2" }),
    ]);
    for (const from of [front, guest]) await becomes(cluster, from, web, true);
    deepEqual(await names(cluster, "workloadendpoints"), [
      "guests/h2-k8s-guest-eth0",
      "shop/h1-k8s-web-eth0",
      "shop/h2-k8s-front-eth0",
    ]);
  });
  await step("a NetworkPolicy lets in whom it names, and nobody else", async () => {
    const applied = performance.now();
    await api.apply(policy("web", webFrom({ podSelector: { matchLabels: { role: "client" } } })));
    await becomes(cluster, front, web, false);
    await becomes(cluster, guest, web, false);
    timings.push(`policy applied to denied: ${Math.round(performance.now() - applied)} ms with kubectl`);
  });
  await step("a label of a pod opens, and its loss closes", async () => {
    await cluster.label("Pod", front, { role: "client" });
    timings.push(`pod label to open: ${await becomes(cluster, front, web, true)} ms`);
    equal(await cluster.reaches(guest, web), false);
    await cluster.label("Pod", front, { role: undefined });
    timings.push(`pod label to closed: ${await becomes(cluster, front, web, false)} ms`);
  });
  await step("a label of a namespace likewise", async () => {
    await api.apply(policy("web", webFrom({ namespaceSelector: { matchLabels: { team: "blue" } } })));
    await cluster.label("Namespace", { name: "guests" }, { team: "blue" });
    timings.push(`namespace label to open: ${await becomes(cluster, guest, web, true)} ms`);
    equal(await cluster.reaches(front, web), false);
    await cluster.label("Namespace", { name: "guests" }, { team: "red" });
    await becomes(cluster, guest, web, false);
  });
  await step("a pod made anew under the same name has its new labels from the first packet on", async () => {
    await api.apply(policy("web", webFrom({ podSelector: { matchLabels: { role: "client" } } })));
    await cluster.remove(front);
    front = await cluster.run({ namespace: "shop", name: "front", labels: { role: "client" }, host: "h2" });
    await becomes(cluster, front, web, true);
    await cluster.remove(front);
    front = await cluster.run({ namespace: "shop", name: "front", labels: { role: "other" }, host: "h2" });
    await becomes(cluster, front, web, false);
  });
  if (kubernetesBinaries) {
    await step("kube-apiserver killed, its etcd compacted, its certificate renewed: nothing is lost", async () => {
      await plane.kill();
      equal(await cluster.reaches(front, web), false, "policy stays without it");
      await plane.restart(true);
      await cluster.label("Pod", front, { role: "client" });
      await becomes(cluster, front, web, true);
      await plane.kill();
      await plane.etcd.compact();
      await plane.restart();
      await cluster.label("Pod", front, { role: "none" });
      await becomes(cluster, front, web, false);
      ok(!cluster.controllers.isEnded, cluster.controllers.logTail());
      for (const host of cluster.lab.hosts) {
        await wait(`the agent of ${host.name} to follow again`, () => follows(host), { deadlineMs: 40_000 });
      }
      const log = await Deno.readTextFile(cluster.controllers.logFile);
      const expired = (log.match(/too old resource version|Gone/g) ?? []).length;
      ok(expired > 0, "the compacted server said 410");
      timings.push(`"too old" was answered ${expired} times, and all was listed anew`);
    });
  }
  await step("a policy that is deleted opens everything again", async () => {
    await api.delete("networkpolicies", "shop", "web");
    for (const from of [front, guest]) await becomes(cluster, from, web, true);
  });
  await step("a node that is drained and deleted goes from the datastore with all that is about it", async () => {
    await cluster.nodes[1]!.process.kill("SIGTERM");
    await cluster.drainAndDelete("h2");
    await wait("the node to go", async () => (await names(cluster, "nodes")).join() === "h1", { deadlineMs: 30_000 });
    deepEqual(await names(cluster, "workloadendpoints"), ["shop/h1-k8s-web-eth0"]);
    const handles = await cluster.etcd.dump("/calico/ipam/v2/handle/");
    equal(handles.size, 1, [...handles.keys()].join(" "));
    equal((await cluster.etcd.dump("/calico/ipam/v2/host/h2/")).size, 0);
  });
  console.log(`${apiKind}: ${timings.join("; ")}`);
});
