import { runOk } from "../../lib/process.ts";
import { parseAllDocuments } from "yaml";
import type { ApiObject } from "./api_objects.ts";
import { type ApiServer, objectsByCurl, startApiServer } from "./api_server.ts";
import { type Certificate, makeAuthority } from "./certificates.ts";
import { type Etcd, startEtcd } from "./etcd.ts";
import { uniqueSuffix } from "./port.ts";
import { wait } from "./wait.ts";

/**
 * The folder with Kubernetes' own programs (kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy,
 * kubectl), from KUBERNETES_BINARIES; undefined when this machine has none: then tests use the lab's own API server.
 */
export const kubernetesBinaries: string | undefined = Deno.env.get("KUBERNETES_BINARIES") || undefined;

/** For the names of tests: "real apiserver v1.20.2", or "fake". */
export const apiKind: string = kubernetesBinaries ? `real apiserver ${versionOf(kubernetesBinaries)}` : "fake";

/** "v1.20.2", as the program says. */
function versionOf(folder: string): string {
  const { stdout } = new Deno.Command(`${folder}/kube-apiserver`, { args: ["--version"] }).outputSync();
  return new TextDecoder().decode(stdout).trim().split(" ").at(-1)!;
}

/** An API server, real or the lab's own, that may be asked who asked what. */
export interface Kubernetes extends ApiServer {
  /** Applies a manifest of one or more objects: with kubectl where there is one. */
  apply(yaml: string): Promise<void>;
  /** What an account ("kube-system/x") has asked so far: "GET /api/v1/pods?watch=true", in order. */
  requestsOf(account: string): Promise<string[]>;
}

/** Starts a control plane where there are binaries, else the lab's own API server. */
export async function startKubernetes(options: ControlPlaneOptions): Promise<Kubernetes> {
  if (kubernetesBinaries) {
    const plane = await startControlPlane(options);
    return {
      ...plane,
      apply: async (yaml) => void await plane.kubectl(["apply", "-f", "-"], yaml),
      requestsOf: (account) => auditedRequests(`${options.dir}/audit.log`, account),
    };
  }
  const api = await startApiServer({ ...options, port: 6443 });
  return {
    ...api,
    async apply(yaml) {
      for (const document of parseAllDocuments(yaml)) await api.put(document.toJSON() as ApiObject);
    },
    async requestsOf(account) {
      const lines = (await Deno.readTextFile(`${options.dir}/accounts.log`)).split("\n");
      return lines.filter((line) => line.startsWith(`${account} `)).map((line) => line.slice(account.length + 1));
    },
  };
}

/** What kube-apiserver wrote down of an account's requests. */
async function auditedRequests(file: string, account: string): Promise<string[]> {
  const [namespace, name] = account.split("/");
  const methods: Record<string, string> = { create: "POST", update: "PUT", patch: "PATCH", delete: "DELETE" };
  const events = (await Deno.readTextFile(file)).split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line) as { user: { username: string }; verb: string; requestURI: string; stage: string }
  );
  return events.filter((e) => e.stage === "RequestReceived")
    .filter((e) => e.user.username === `system:serviceaccount:${namespace}:${name}`)
    .map((e) => `${methods[e.verb] ?? "GET"} ${e.requestURI}`);
}

/** Where a control plane stands. */
export interface ControlPlaneOptions {
  /** Certificates, logs and etcd's data; on tmpfs. */
  dir: string;
  /** Name of the network namespace. */
  netns: string;
  /** Address in it that everybody can reach. */
  address: string;
  /** kube-controller-manager and kube-scheduler run, too: without them no token is made and no pod goes to a node. */
  managed?: boolean;
}

/** kube-apiserver on an etcd of its own, with RBAC. As an ApiServer its token is that of a cluster's administrator. */
export interface ControlPlane extends ApiServer {
  readonly etcd: Etcd;
  /** kubectl as the administrator. @param stdin for `-f -`. */
  kubectl(words: string[], stdin?: string): Promise<string>;
  /** A kubeconfig with a client certificate for a user of some group; what the kubelet is given. */
  kubeconfigFor(user: string, group: string): Promise<string>;
  /** kill -9 of kube-apiserver. */
  kill(): Promise<void>;
  /** Starts it again and waits until it is ready. @param renewed with a new certificate of the same authority. */
  restart(renewed?: boolean): Promise<void>;
}

/** Starts it. @throws when it is not ready within 60 s, with the end of its log. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const folder = kubernetesBinaries;
  if (!folder) throw new Error("KUBERNETES_BINARIES is not set");
  const { dir, netns, address, managed = true } = options;
  await using stack = new AsyncDisposableStack();
  await Deno.mkdir(dir, { recursive: true });
  const etcd = stack.use(await startEtcd({ netns, address, port: 12379, dataDir: `${dir}/etcd`, server: "etcd" }));
  const authority = await makeAuthority(dir, "kubernetes-ca");
  const token = `lab-token-${uniqueSuffix()}${uniqueSuffix()}`;
  await Deno.writeTextFile(`${dir}/tokens.csv`, `${token},admin,1,"system:masters"\n`);
  await Deno.writeTextFile(`${dir}/audit.json`, JSON.stringify(auditPolicy));
  await runOk("openssl", ["genrsa", "-out", `${dir}/accounts.key`, "2048"]);
  const url = `https://${address}:6443`, caFile = authority.certFile;
  const issue = () => authority.issue("kube-apiserver", [address, "10.96.0.1", "kubernetes.default.svc"]);
  const programs = new Programs(folder, dir, netns);
  stack.use(programs);
  const curl = (...words: string[]) =>
    runOk("nsenter", [
      ...[`--net=/run/netns/${netns}`, "curl", "-fsS", "--max-time", "20", "--cacert", caFile],
      ...["-H", `Authorization: Bearer ${token}`, ...words],
    ]);
  const begin = async (certificate: Certificate) => {
    await programs.start("kube-apiserver", apiServerFlags({ dir, address, etcd: etcd.endpoint, caFile, certificate }));
    await wait("kube-apiserver to be ready", async () => {
      if (programs.hasEnded("kube-apiserver")) return true;
      return (await curl(`${url}/readyz`)) === "ok";
    }, { deadlineMs: 60_000, everyMs: 200 }).catch((error) => {
      throw new Error(`${error.message}\n${programs.log("kube-apiserver")}`);
    });
    if (programs.hasEnded("kube-apiserver")) throw new Error(`it ended:\n${programs.log("kube-apiserver")}`);
  };
  let certificate = await issue();
  await begin(certificate);
  const admin = await writeKubeconfig(`${dir}/kubeconfig`, { url, caFile, user: { token } });
  if (managed) {
    const words = [`--kubeconfig=${admin}`, "--leader-elect=false", "--bind-address=127.0.0.1"];
    await programs.start("kube-scheduler", [...words, "--port=0", "--secure-port=0"]);
    await programs.start("kube-controller-manager", [
      ...[...words, "--port=0", "--secure-port=0", "--use-service-account-credentials=false"],
      ...[`--service-account-private-key-file=${dir}/accounts.key`, `--root-ca-file=${caFile}`],
      ...["--node-monitor-grace-period=10s", "--pod-eviction-timeout=5s"],
    ]);
  }
  const all = stack.move();
  return {
    ...{ url, token, caFile, kubeconfig: admin, etcd, ...objectsByCurl(url, curl) },
    kubectl: (words, stdin) =>
      runOk("nsenter", [`--net=/run/netns/${netns}`, `${folder}/kubectl`, "--kubeconfig", admin, ...words], {
        ...(stdin === undefined ? {} : { stdin }),
        timeoutMs: 110_000,
      }),
    async kubeconfigFor(user, group) {
      const { certFile, keyFile } = await authority.issue(user, [], group);
      return await writeKubeconfig(`${dir}/kubeconfig-${user.replaceAll(":", "-")}`, {
        ...{ url, caFile, user: { "client-certificate": certFile, "client-key": keyFile } },
      });
    },
    kill: () => programs.kill("kube-apiserver"),
    async restart(renewed = false) {
      await programs.kill("kube-apiserver");
      if (renewed) certificate = await issue();
      await begin(certificate);
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Every request of a service account is written down, with nothing of its body. */
const auditPolicy = {
  ...{ apiVersion: "audit.k8s.io/v1", kind: "Policy" },
  rules: [{ level: "Metadata", userGroups: ["system:serviceaccounts"] }, { level: "None" }],
};

function apiServerFlags(
  { dir, address, etcd, caFile, certificate }: {
    dir: string;
    address: string;
    etcd: string;
    caFile: string;
    certificate: Certificate;
  },
): string[] {
  return [
    ...[`--etcd-servers=${etcd}`, "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true"],
    ...[`--bind-address=${address}`, `--advertise-address=${address}`, "--secure-port=6443"],
    ...[`--tls-cert-file=${certificate.certFile}`, `--tls-private-key-file=${certificate.keyFile}`],
    ...[`--client-ca-file=${caFile}`, `--token-auth-file=${dir}/tokens.csv`, "--authorization-mode=Node,RBAC"],
    ...[`--audit-policy-file=${dir}/audit.json`, `--audit-log-path=${dir}/audit.log`],
    ...["--service-account-issuer=https://kubernetes.default.svc", `--cert-dir=${dir}`],
    ...[`--service-account-key-file=${dir}/accounts.key`, `--service-account-signing-key-file=${dir}/accounts.key`],
  ];
}

/** The programs of a control plane in a network namespace, each with a log; they die with this process. */
class Programs implements AsyncDisposable {
  readonly #running = new Map<string, { child: Deno.ChildProcess; ended: boolean }>();

  constructor(private readonly folder: string, private readonly dir: string, private readonly netns: string) {}

  start(name: string, flags: string[]): Promise<void> {
    const words = ["sh", "-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "start", `${this.dir}/${name}.log`];
    const die = ["--pdeathsig", "KILL", "--"];
    const child = new Deno.Command("setpriv", {
      args: [...die, "nsenter", `--net=/run/netns/${this.netns}`, ...words, `${this.folder}/${name}`, ...flags],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const one = { child, ended: false };
    child.status.then(() => one.ended = true);
    this.#running.set(name, one);
    return Promise.resolve();
  }

  hasEnded(name: string): boolean {
    return this.#running.get(name)?.ended ?? true;
  }

  log(name: string): string {
    return Deno.readTextFileSync(`${this.dir}/${name}.log`).trimEnd().split("\n").slice(-15).join("\n");
  }

  async kill(name: string): Promise<void> {
    const one = this.#running.get(name);
    if (!one) return;
    if (!one.ended) one.child.kill("SIGKILL");
    await one.child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of this.#running.keys()) await this.kill(name);
  }
}

/** Writes a kubeconfig; JSON is YAML. */
async function writeKubeconfig(
  file: string,
  { url, caFile, user }: { url: string; caFile: string; user: Record<string, string> },
): Promise<string> {
  const cluster = { server: url, "certificate-authority-data": btoa(await Deno.readTextFile(caFile)) };
  const named = (member: string, value: unknown) => [{ name: "lab", [member]: value }];
  const config = {
    ...{ apiVersion: "v1", kind: "Config", "current-context": "lab" },
    ...{ clusters: named("cluster", cluster), users: named("user", user) },
    contexts: named("context", { cluster: "lab", user: "lab" }),
  };
  await Deno.writeTextFile(file, JSON.stringify(config, null, 2));
  return file;
}
