/** The manifests of docs/kubernetes beside what our programs ask of an API server, and the token that a node renews. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { parseAllDocuments } from "yaml";
import { run } from "../../lib/process.ts";
import { silentLog } from "../../lib/log.ts";
import { systemClock } from "../../lib/clock.ts";
import { knownSettings } from "../../node/settings.ts";
import { keepKubernetesAccess } from "../../node/kubernetes_access.ts";
import { type AgentWorld, makeAgentWorld, putCluster, tortie } from "../lab/agent_world.ts";
import { type Asked, askedBy, covers, type Rule } from "../lab/api_access.ts";
import { apiKind, type Kubernetes, kubernetesBinaries, startKubernetes } from "../lab/kubernetes.ts";
import { wait } from "../lab/wait.ts";

const root = new URL("../..", import.meta.url).pathname;
const manifest = await Deno.readTextFile(`${root}docs/kubernetes/rbac.yaml`);

/** What the manifest gives to an account, by the names of its roles. */
function rulesOf(account: string): Rule[] {
  const objects = parseAllDocuments(manifest).map((d) =>
    d.toJSON() as { kind: string; metadata: { name: string }; rules?: Rule[] }
  );
  return objects.filter((o) => /Role$/.test(o.kind) && o.metadata.name === account).flatMap((o) => o.rules ?? []);
}

/** What is given and was not asked, word by word: "create events". */
function unused(rules: Rule[], asked: Asked[]): string[] {
  const single = rules.flatMap((rule) =>
    rule.resources.flatMap((resource) =>
      rule.verbs.flatMap((verb) =>
        (rule.resourceNames ?? [undefined]).map((name) => ({
          ...rule,
          resources: [resource],
          verbs: [verb],
          ...(name === undefined ? {} : { resourceNames: [name] }),
        }))
      )
    )
  );
  return single.filter((rule) => !asked.some((one) => covers(rule, one)))
    .map((rule) => [rule.verbs[0], rule.resources[0], ...(rule.resourceNames ?? [])].join(" ")).sort();
}

/** The words that run tortie in the world's network. */
const words = (world: AgentWorld) => [`--net=${world.host.path}`, ...tortie()];

async function install(world: AgentWorld, api: Kubernetes, ...more: string[]) {
  const to = `${world.dir}/root`, binary = `${world.dir}/program`;
  await Deno.mkdir(to, { recursive: true });
  await Deno.writeTextFile(binary, "#!/bin/sh\n", { mode: 0o755 });
  const flags = ["--kubernetes", "--kubeconfig", api.kubeconfig, "--binary", binary, "--root", to, ...more];
  return await run("nsenter", [...words(world), "install", ...flags]);
}

/** A node's kubeconfig as the installation writes it, for the agent. */
async function accessOf(world: AgentWorld, api: Kubernetes): Promise<string> {
  const done = await install(world, api);
  equal(done.code, 0, done.stderr);
  return `${world.dir}/root/var/lib/tortie/kubeconfig`;
}

/** What a controllers process says of itself over HTTP; code 0 = ready. */
const readiness = async (world: AgentWorld) =>
  await run("nsenter", [
    `--net=${world.host.path}`,
    "curl",
    "-sS",
    "--fail-with-body",
    "http://127.0.0.1:9440/readiness",
  ]);

Deno.test(`the manifests give each account what it asks for, and nothing else (${apiKind})`, async (t) => {
  await using world = await makeAgentWorld("k8");
  await world.host.ip("addr add 10.99.0.1/24 dev eth0");
  await putCluster(world, "alder", [{ name: "p4", cidr: "10.88.0.0/20", blockSize: 28 }]);
  await using api = await startKubernetes({ dir: `${world.dir}/kube`, netns: world.host.name, address: "10.99.0.1" });
  await api.put({ kind: "Namespace", metadata: { name: "kube-system" } }).catch(() => {}); // a real one has made it
  await api.apply(manifest);
  await api.put({ kind: "Namespace", metadata: { name: "shop" } });
  const spec = { nodeName: "alder", containers: [{ name: "c", image: "none" }] };
  await wait("the namespace's account", async () => {
    await api.put({ kind: "Pod", metadata: { name: "cart-0", namespace: "shop", labels: { app: "cart" } }, spec });
    return true;
  }, { deadlineMs: 20_000 });

  if (kubernetesBinaries) {
    await t.step("a real API server takes the workloads as they are", async () => {
      for (const file of ["node.yaml", "controllers.yaml"]) {
        await api.apply(await Deno.readTextFile(`${root}docs/kubernetes/${file}`));
      }
    });
  }
  await t.step("install --kubernetes writes a kubeconfig with a bound token, which only root can read", async () => {
    const file = await accessOf(world, api);
    equal(Deno.statSync(file).mode! & 0o777, 0o600);
    const text = await Deno.readTextFile(file);
    match(text, /^# Written by tortie/);
    const config = JSON.parse(await Deno.readTextFile(`${world.dir}/root/etc/cni/net.d/10-calico.conflist`));
    equal(config.plugins[0].kubernetes.kubeconfig, "/var/lib/tortie/kubeconfig");
    match(
      await Deno.readTextFile(`${world.dir}/root/etc/tortie/tortie.env`),
      /KUBECONFIG="\/var\/lib\/tortie\/kubeconfig"/,
    );
    match((await install(world, api)).stdout, /everything is installed already/);
    equal(await Deno.readTextFile(file), text, "a token that is fresh stays");
    await Deno.writeTextFile(file, "apiVersion: v1\n");
    const refused = await install(world, api);
    deepEqual([refused.code, /not tortie's/.test(refused.stderr)], [1, true], refused.stderr);
    await Deno.writeTextFile(file, text);
  });

  await t.step("the node asks for nothing that it may not, and may nothing that it does not ask for", async () => {
    const kubeconfig = await accessOf(world, api);
    await world.start({ role: "node", env: { KUBECONFIG: kubeconfig, IP: "10.99.0.1" } });
    const known = async () => {
      const { body } = await world.get("/v1/status");
      return (body as { kubernetes: { pods: { objects: number }; namespaces: { listed: boolean } }[] }).kubernetes[0];
    };
    await wait("the pod to be known", async () => (await known())?.pods.objects === 1);
    await wait("the namespaces", async () => (await known())?.namespaces.listed);
    const pod = await world.pod();
    const config = {
      ...{
        name: "net-x",
        type: "calico",
        cniVersion: "1.0.0",
        nodename_file_optional: true,
        kubernetes: { kubeconfig },
      },
      ...{ ipam: { type: "calico-ipam" }, policy: { type: "k8s" } },
    };
    const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=another";
    const added = await world.call({ command: "ADD", containerId: "c1", netns: pod.path, config, args });
    equal(added.code, 0, `${added.stdout} ${world.log().slice(-2000)}`);
    equal((await world.call({ command: "DEL", containerId: "c1", netns: pod.path, config, args })).code, 0);
    ok(!/does not let us|refuses/.test(world.log()), world.log());
    // The token is renewed as soon as a third of its life is over by the clock that the node is given.
    const before = await Deno.readTextFile(kubeconfig);
    await world.stop();
    await renewOnce(world, kubeconfig);
    const after = await Deno.readTextFile(kubeconfig);
    ok(after !== before, "another token");
    await world.start({ role: "node", env: { KUBECONFIG: kubeconfig, IP: "10.99.0.1" } });
    await wait("the pod to be known with it", async () => (await known())?.pods.objects === 1);
    await world.stop();

    const asked = await askedOf(api, "kube-system/tortie-node");
    for (const one of asked) ok(rulesOf("tortie-node").some((rule) => covers(rule, one)), JSON.stringify(one));
    deepEqual(unused(rulesOf("tortie-node"), asked), [
      "get namespaces", // one that the list does not have yet
      "get nodes", // of the method kubernetes-internal-ip, and of host-local's pod CIDR
    ]);
  });

  await t.step("the controllers likewise", async () => {
    const kubeconfig = `${world.dir}/controllers`;
    const done = await install(world, api, "--service-account", "kube-system/tortie-controllers", "--no-systemd");
    equal(done.code, 0, done.stderr);
    await Deno.remove(`${world.dir}/root/var/lib/tortie/kubeconfig`);
    equal((await install(world, api, "--service-account", "kube-system/tortie-controllers")).code, 0);
    await Deno.copyFile(`${world.dir}/root/var/lib/tortie/kubeconfig`, kubeconfig);
    await giveReasons(world, api);
    const env = { ETCD_ENDPOINTS: world.etcd.endpoint, KUBECONFIG: kubeconfig, LOG_LEVEL: "debug" };
    const [program, ...args] = [...words(world), "controllers", "--health-port", "9440"];
    const child = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", "nsenter", program!, ...args],
      ...{ env, stdin: "null", stdout: "null", stderr: "piped" },
    }).spawn();
    const log = new Response(child.stderr).text();
    try {
      await wait("all controllers to follow", async () => (await readiness(world)).code === 0, {
        deadlineMs: 30_000,
      }).catch(async (error) => {
        child.kill("SIGTERM");
        throw new Error(`${error.message}\n${(await readiness(world)).stdout}\n${await log}`);
      });
      const key = "/calico/resources/v3/projectcalico.org/profiles/kns.shop";
      await wait("the namespace's profile", async () => (await world.etcd.dump(key)).size === 1);
      const reasons = ["GET /api/v1/nodes/ghost", "PUT /api/v1/namespaces/shop/services/web/status"];
      await wait("what is asked for a reason", async () => {
        const asked = (await api.requestsOf("kube-system/tortie-controllers")).join("\n");
        return reasons.every((line) => asked.includes(line));
      });
    } finally {
      try {
        child.kill("SIGTERM");
      } catch { /* it had ended */ }
      await child.status;
    }
    ok(!/Forbidden|cannot (list|watch)/.test(await log), await log);
    const asked = await askedOf(api, "kube-system/tortie-controllers");
    for (const one of asked) ok(rulesOf("tortie-controllers").some((rule) => covers(rule, one)), JSON.stringify(one));
    deepEqual(unused(rulesOf("tortie-controllers"), asked).filter((one) => !seldom.has(one)), []);
  });
});

interface Container {
  env?: { name: string }[];
  volumeMounts: { name: string }[];
  args: string[];
}

interface Workload {
  spec: {
    template: {
      spec: {
        serviceAccountName: string;
        initContainers?: Container[];
        containers: Container[];
        volumes: { name: string }[];
      };
    };
  };
}

Deno.test("the workloads of the manifests name accounts, volumes, settings and commands that there are", async () => {
  const accounts = parseAllDocuments(manifest).map((d) => d.toJSON()).filter((o) => o.kind === "ServiceAccount");
  const names = accounts.map((account) => account.metadata.name);
  for (const file of ["node.yaml", "controllers.yaml"]) {
    const text = await Deno.readTextFile(`${root}docs/kubernetes/${file}`);
    const { spec } = (parseAllDocuments(text)[0]!.toJSON() as Workload).spec.template;
    ok(names.includes(spec.serviceAccountName), spec.serviceAccountName);
    const containers = [...spec.initContainers ?? [], ...spec.containers];
    const mounted = new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)));
    deepEqual([...mounted].sort(), spec.volumes.map(({ name }) => name).sort(), file);
    for (const { name } of containers.flatMap(({ env = [] }) => env)) {
      ok(knownSettings.some((setting) => setting.name === name), name);
    }
    for (const { args } of containers) ok(["install", "node", "controllers"].includes(args[0]!), args[0]!);
  }
});

/** What the controllers ask for only when there is a reason that this test does not make. */
const seldom = new Set([
  "create events", // of a policy that cannot be followed
  "get pods", // of an address whose pod seems to be gone
  // Of kinds that a cluster need not have.
  ...["adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"].map((kind) => `watch ${kind}`),
  "watch endpointslices",
]);

/** A node that Kubernetes does not have, and a Service that wants an address. */
async function giveReasons(world: AgentWorld, api: Kubernetes): Promise<void> {
  const stamp = { creationTimestamp: "2026-01-02T03:04:05Z", uid: crypto.randomUUID() };
  const orchRefs = [{ nodeName: "ghost", orchestrator: "k8s" }];
  await world.put({ kind: "Node", metadata: { name: "ghost", ...stamp }, spec: { orchRefs } });
  const pool = { cidr: "10.99.128.0/24", blockSize: 28, nodeSelector: "all()", allowedUses: ["LoadBalancer"] };
  await world.put({ kind: "IPPool", metadata: { name: "balanced", ...stamp }, spec: pool });
  const service = { type: "LoadBalancer", ipFamilies: ["IPv4"], ports: [{ port: 80 }] };
  await api.put({ kind: "Service", metadata: { name: "web", namespace: "shop" }, spec: service });
}

async function askedOf(api: Kubernetes, account: string): Promise<Asked[]> {
  return (await api.requestsOf(account)).map(askedBy).filter((asked) => asked !== undefined);
}

/** Lets the node's own loop renew the token: in this process, by a clock that runs a day ahead, in the world's network. */
async function renewOnce(world: AgentWorld, kubeconfig: string): Promise<void> {
  const program = `
    import { keepKubernetesAccess } from "${root}node/kubernetes_access.ts";
    import { systemClock } from "${root}lib/clock.ts";
    import { createLog } from "${root}lib/log.ts";
    const stop = new AbortController();
    const sleep = (ms, signal) => ms < 60_000 ? systemClock.sleep(ms, signal) : (stop.abort(), Promise.resolve());
    const clock = { ...systemClock, now: () => Date.now() + 24 * 3600_000, sleep };
    const settings = { get: (name) => name === "KUBECONFIG" ? ${JSON.stringify(kubeconfig)} : undefined };
    await keepKubernetesAccess({ settings, clock, log: createLog("t"), signal: stop.signal });
  `;
  const file = `${world.dir}/renew.ts`;
  await Deno.writeTextFile(file, program);
  const config = ["--config", `${root}deno.json`, "--no-check", "--no-lock", "-A"];
  const done = await run("nsenter", [`--net=${world.host.path}`, Deno.execPath(), "run", ...config, file]);
  equal(done.code, 0, done.stderr);
  match(done.stderr, /Kubernetes token renewed/);
}

Deno.test("a kubeconfig that is not ours is never rewritten", async () => {
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, "apiVersion: v1\n");
  const stop = new AbortController();
  const clock = {
    ...systemClock,
    sleep: () => {
      stop.abort(new Error("once is enough"));
      return Promise.resolve();
    },
  };
  const settings = { get: () => file } as never;
  await keepKubernetesAccess({ settings, clock, log: silentLog, signal: stop.signal });
  equal(await Deno.readTextFile(file), "apiVersion: v1\n");
  await Deno.remove(file);
});
