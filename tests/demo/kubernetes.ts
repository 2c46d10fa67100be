import { messageOf } from "../../lib/problem.ts";
import { keepArtefacts } from "../lab/artefacts.ts";
import { apiKind, kubernetesBinaries } from "../lab/kubernetes.ts";
import { type KubernetesCluster, makeKubernetesCluster, type RunningPod } from "../lab/kubernetes_cluster.ts";
import { wait } from "../lab/wait.ts";
import type { Story } from "./story.ts";
import { leftovers } from "./world.ts";

/**
 * Two hosts of a Kubernetes cluster: pods, a NetworkPolicy, labels, a node that goes. With KUBERNETES_BINARIES the cluster is
 * real, else the lab's API server stands for it. @returns exit code.
 */
export async function kubernetesDemo(story: Story): Promise<number> {
  story.step(`two hosts with containerd and \`tortie node\`, \`tortie controllers\`, an etcd; Kubernetes: ${apiKind}`);
  if (!kubernetesBinaries) story.say("KUBERNETES_BINARIES=<folder of kube-apiserver, kubelet, …> makes it a real one");
  let prefix = "";
  try {
    await using cluster = await makeKubernetesCluster(2, "k8d");
    prefix = cluster.lab.prefix;
    await tell(story, cluster).catch(async (error) => {
      story.check("the demo went through", false, messageOf(error));
      story.say(`logs, rules and routes are in ${await keepArtefacts("demo", cluster.lab)}`);
    });
    story.step("cleaning up");
  } catch (error) {
    story.check("the cluster was made", false, messageOf(error));
  }
  const left = prefix === "" ? [] : await leftovers(prefix);
  story.check("nothing is left of it", left.length === 0, left.join("; "));
  return story.end();
}

async function tell(story: Story, cluster: KubernetesCluster): Promise<void> {
  const { api, nodes } = cluster, ctl = nodes[0]!.ctl;
  for (const name of ["shop", "guests"]) {
    await api.apply(JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: {} } }));
  }
  story.step("three pods");
  const [web, front, guest] = await Promise.all([
    cluster.run({ namespace: "shop", name: "web", labels: { app: "web" }, host: "h1" }),
    cluster.run({ namespace: "shop", name: "front", labels: { app: "front" }, host: "h2" }),
    cluster.run({ namespace: "guests", name: "guest", labels: { app: "guest" }, host: "h2" }),
  ]);
  story.show("tortie ctl get workloadendpoints -A", await ctl("get", "workloadendpoints", "-A"));
  /** Says who reaches web, and checks it. */
  const reach = async (what: string, wanted: RunningPod[]) => {
    const began = performance.now();
    const isSo = async () => {
      const seen = await Promise.all([front, guest].map((pod) => cluster.reaches(pod, web)));
      return [front, guest].every((pod, i) => seen[i] === wanted.includes(pod));
    };
    const held = await wait(what, isSo, { deadlineMs: 10_000, everyMs: 20 }).then(() => true, () => false);
    story.check(what, held, `seen after ${Math.round(performance.now() - began)} ms`);
  };
  await reach("front and guest reach web", [front, guest]);

  story.step("a NetworkPolicy: web lets in who has the label role=client");
  const from = [{ podSelector: { matchLabels: { role: "client" } } }];
  const spec = { podSelector: { matchLabels: { app: "web" } }, ingress: [{ from, ports: [{ port: 80 }] }] };
  const kind = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" };
  await api.apply(JSON.stringify({ ...kind, metadata: { name: "web", namespace: "shop" }, spec }));
  await reach("nobody reaches web", []);
  story.show("tortie ctl get networkpolicy -n shop", await ctl("get", "networkpolicy", "-n", "shop"));
  story.show(
    `tortie ctl why ${front.ip} ${web.ip} tcp/80`,
    await ctl("why", front.ip, web.ip, "tcp/80").catch(messageOf),
  );

  story.step("front gets the label, and loses it");
  await cluster.label("Pod", front, { role: "client" });
  await reach("front reaches web", [front]);
  await cluster.label("Pod", front, { role: undefined });
  await reach("nobody reaches web any more", []);

  story.step("h2 is drained and deleted");
  await nodes[1]!.process.kill("SIGTERM");
  await cluster.drainAndDelete("h2");
  const gone = await wait("h2 to go", async () => !/h2/.test(await ctl("get", "nodes")), { deadlineMs: 30_000 })
    .then(() => true, () => false);
  story.check("it is gone from the datastore, with its endpoints and addresses", gone);
  story.show("tortie ctl ipam show --show-blocks", await ctl("ipam", "show", "--show-blocks"));
}
