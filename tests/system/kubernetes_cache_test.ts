import { equal, match, ok } from "node:assert/strict";
import { kubeconfigText } from "../../datastore/kubernetes/kubeconfig.ts";
import { runOk } from "../../lib/process.ts";
import { type AgentWorld, makeAgentWorld, type PluginResult, putCluster } from "../lab/agent_world.ts";
import type { ApiServer } from "../lab/api_server.ts";
import { wait } from "../lab/wait.ts";
import { settled, stateOf } from "./_cni_state.ts";

interface Followed {
  listed: boolean;
  connected: boolean;
  objects: number;
  why?: string;
}

/** How the agent says it knows Kubernetes. */
async function known(world: AgentWorld): Promise<{ pods: Followed; namespaces: Followed } | undefined> {
  const { body } = await world.get("/v1/status");
  return (body as { kubernetes: { pods: Followed; namespaces: Followed }[] }).kubernetes[0];
}

const putPod = (api: ApiServer, name: string, uid: string, app: string, more: Record<string, string> = {}) =>
  api.put({
    ...{ apiVersion: "v1", kind: "Pod", spec: { nodeName: "alder", serviceAccountName: "seller" } },
    metadata: { name, namespace: "shop", uid, labels: { app }, annotations: more },
  });

/** Requests for single pods and namespaces since the last call of it. */
function questions(world: AgentWorld): () => Promise<string[]> {
  let seen = 0;
  return async () => {
    const all = (await Deno.readTextFile(`${world.dir}/api/requests.log`)).split("\n");
    const news = all.slice(seen);
    seen = all.length - 1;
    return news.filter((line) => /^GET \/api\/v1\/namespaces\/shop(\/pods\/\S+)?$/.test(line));
  };
}

Deno.test("pods and namespaces are followed: ADD asks nothing that is known, and is served while the API server is away (fake)", async (t) => {
  await using world = await makeAgentWorld("k8");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  const api = await world.api();
  await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  await putPod(api, "cart-0", "uid-1", "first");
  await world.start({ env: { KUBECONFIG: api.kubeconfig } });
  const pod = await world.pod(), asked = questions(world);
  const config = {
    ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
    ...{ ipam: { type: "calico-ipam" }, policy: { type: "k8s" }, kubernetes: { kubeconfig: api.kubeconfig } },
  };
  const call = (command: string, containerId: string, name: string, uid: string): Promise<PluginResult> => {
    const words = [`K8S_POD_NAMESPACE=shop`, `K8S_POD_NAME=${name}`, ...(uid === "" ? [] : [`K8S_POD_UID=${uid}`])];
    return world.call({ command, containerId, netns: pod.path, config, args: ["IgnoreUnknown=1", ...words].join(";") });
  };
  /** ADD and DEL of a pod; answers the label of its endpoint. */
  const labelOf = async (name: string, uid: string): Promise<string | undefined> => {
    const added = await call("ADD", `c-${uid}`, name, uid);
    equal(added.code, 0, `${added.stdout}\n${world.log().slice(-1500)}`);
    const endpoint = [...(await stateOf(world)).endpoints.values()][0]!;
    const labels = (endpoint as unknown as { metadata: { labels: Record<string, string> } }).metadata.labels;
    equal((await call("DEL", `c-${uid}`, name, uid)).code, 0);
    await settled(world, 0);
    return labels.app;
  };
  const step = (name: string, work: () => Promise<void>) => t.step(name, work);

  await step("both collections are there before the first call", async () => {
    await wait("the pods", async () => (await known(world))?.pods.objects === 1);
    await wait("the namespaces", async () => (await known(world))?.namespaces.objects === 1);
  });
  await step("a known pod costs no request", async () => {
    await asked();
    equal(await labelOf("cart-0", "uid-1"), "first");
    equal((await asked()).join("\n"), "");
  });
  await step("a pod that comes later is known by the watch", async () => {
    await putPod(api, "cart-1", "uid-2", "second");
    await wait("the pod", async () => (await known(world))?.pods.objects === 2);
    await asked();
    equal(await labelOf("cart-1", "uid-2"), "second");
    equal((await asked()).join("\n"), "");
  });
  await step("a pod made anew under the same name is never taken for the older one", async () => {
    await api.delete("pods", "shop", "cart-1");
    await putPod(api, "cart-1", "uid-3", "third");
    equal(await labelOf("cart-1", "uid-3"), "third");
    await asked();
    equal(await labelOf("cart-1", "uid-of-another"), "third");
    equal((await asked()).length, 1, "what is known is another pod, so the server is asked");
  });
  await step("a static pod is known by its file's hash", async () => {
    await putPod(api, "static", "uid-4", "mirror", { "kubernetes.io/config.hash": "hash-of-file" });
    await wait("the pod", async () => (await known(world))?.pods.objects === 3);
    await asked();
    equal(await labelOf("static", "hash-of-file"), "mirror");
    equal((await asked()).join("\n"), "");
  });
  await step("a runtime that tells no UID has the server asked", async () => {
    equal(await labelOf("cart-0", ""), "first");
    match((await asked()).join("\n"), /pods\/cart-0$/);
  });

  await api[Symbol.asyncDispose]();
  await step("API server away: what is known is served", async () => {
    await wait("the loss to be seen", async () => (await known(world))?.pods.connected === false);
    equal(await labelOf("cart-0", "uid-1"), "first");
    equal(await labelOf("cart-0", ""), "first", "and without a UID, what is known is the best there is");
  });
  const refused = async (name: string, uid: string) => {
    const answer = await call("ADD", `x-${uid}`, name, uid);
    const { code, msg, details } = answer.json as { code: number; msg: string; details: string };
    equal(code, 11, answer.stdout);
    match(`${msg} ${details}`, /Kubernetes API does not answer/);
    await settled(world, 0);
  };
  await step("API server away: what is not known is told to try again, with the reason", async () => {
    await refused("new", "uid-9");
    await refused("cart-0", "uid-of-another");
  });
  await step(
    "an agent that starts without it serves what needs no Kubernetes, and refuses the rest with the reason",
    async () => {
      await world.stop("SIGKILL");
      await world.start({ env: { KUBECONFIG: api.kubeconfig } });
      await refused("cart-0", "uid-1");
      ok(/does not answer|cannot be read/.test((await known(world))!.pods.why ?? ""));
    },
  );
});

/** A token of an account of the lab's API server, in a kubeconfig. */
async function kubeconfigOf(world: AgentWorld, api: ApiServer, account: string): Promise<string> {
  const words = ["-fsS", "--cacert", api.caFile, "-H", `Authorization: Bearer ${api.token}`, "-d", '{"spec":{}}'];
  const place = `${api.url}/api/v1/namespaces/kube-system/serviceaccounts/${account}/token`;
  const answer = await runOk("nsenter", [`--net=${world.host.path}`, "curl", ...words, place]);
  const { token } = (JSON.parse(answer) as { status: { token: string } }).status;
  const file = `${world.dir}/kubeconfig-${account}`;
  await Deno.writeTextFile(file, kubeconfigText({ server: api.url, ca: await Deno.readTextFile(api.caFile), token }));
  return file;
}

Deno.test("an account that may get and not list, as that of Calico's plugin, is served by a question for each ADD (fake)", async () => {
  await using world = await makeAgentWorld("k8");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  const api = await world.api(), account = "calico-cni-plugin";
  const group = "rbac.authorization.k8s.io", apiVersion = `${group}/v1`, metadata = { name: account };
  const rules = [{ apiGroups: [""], resources: ["pods", "nodes", "namespaces"], verbs: ["get"] }];
  await api.put({ apiVersion, kind: "ClusterRole", metadata, rules });
  const subjects = [{ kind: "ServiceAccount", name: account, namespace: "kube-system" }];
  const roleRef = { apiGroup: group, kind: "ClusterRole", name: account };
  await api.put({ apiVersion, kind: "ClusterRoleBinding", metadata, subjects, roleRef });
  await api.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  await putPod(api, "cart-0", "uid-1", "first");
  const kubeconfig = await kubeconfigOf(world, api, account);
  await world.start({ env: { KUBECONFIG: kubeconfig } });
  await wait("the refusal", async () => /cannot list pods/.test((await known(world))?.pods.why ?? ""));
  const pod = await world.pod(), asked = questions(world);
  await asked();
  const config = {
    ...{ name: "net-x", type: "calico", cniVersion: "1.1.0", nodename: "alder", nodename_file_optional: true },
    ...{ ipam: { type: "calico-ipam" }, policy: { type: "k8s" }, kubernetes: { kubeconfig } },
  };
  const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=uid-1";
  const added = await world.call({ command: "ADD", containerId: "c1", netns: pod.path, config, args });
  equal(added.code, 0, added.stdout);
  equal((await asked()).length, 2, "the pod and its namespace");
});
