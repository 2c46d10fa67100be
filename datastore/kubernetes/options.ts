import { isObject, type Json } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";

/** How to reach a Kubernetes API server. Whatever is named as a file is read anew when it changes. */
export interface KubernetesOptions {
  /** `https://host:port`, without a path's final slash. */
  server: string;
  /** Authority that signed the server's certificate; the system's when absent. */
  ca?: Pem;
  token?: { text: string } | { file: string };
  cert?: Pem;
  key?: Pem;
}

/** PEM text, or the file that holds it. */
export type Pem = { text: string } | { file: string };

/** Members of a CNI config that say where Kubernetes is; they win over the kubeconfig. */
export interface KubernetesOverrides {
  kubeconfig?: string;
  apiRoot?: string;
  token?: string;
  certFile?: string;
  keyFile?: string;
  caFile?: string;
}

/** What the decision looks at. `readFile` answers undefined for a file that does not exist; `parseYaml` reads YAML. */
export interface KubernetesSources {
  env(name: string): string | undefined;
  readFile(path: string): string | undefined;
  parseYaml(text: string): unknown;
}

const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * Decides how to reach Kubernetes: overrides, then the kubeconfig's current context, then (with neither) the service
 * account of the pod that we run in.
 * @throws Problem "bad-input" when nothing is configured or the kubeconfig cannot be read; "unsupported" for what we
 * cannot do (exec plugins, unverified certificates).
 * Source: k8s.io/client-go tools/clientcmd; Calico cni-plugin/pkg/k8s/k8s.go NewK8sClient.
 */
export function kubernetesOptions(overrides: KubernetesOverrides, sources: KubernetesSources): KubernetesOptions {
  const fromFile = overrides.kubeconfig ? fromKubeconfig(overrides.kubeconfig, sources) : undefined;
  const nothing = !fromFile && !overrides.apiRoot;
  const base = fromFile ?? (nothing ? inCluster(sources) : undefined);
  const server = serverOf(overrides.apiRoot) ?? base?.server;
  if (!server) {
    throw new Problem({
      code: "bad-input",
      what: "no Kubernetes API server is configured",
      where: "kubernetes.kubeconfig",
      todo: "Name a kubeconfig in the CNI network configuration",
    });
  }
  return {
    server: server.replace(/\/$/, ""),
    ca: asFile(overrides.caFile) ?? base?.ca,
    token: overrides.token ? { text: overrides.token } : base?.token,
    cert: asFile(overrides.certFile) ?? base?.cert,
    key: asFile(overrides.keyFile) ?? base?.key,
  };
}

const asFile = (path: string | undefined): Pem | undefined => (path ? { file: path } : undefined);

/** Old configurations name the API with its path; everything from `/api/` on is cut off. */
const serverOf = (root: string | undefined): string | undefined => root ? root.split("/api/")[0] : undefined;

function inCluster(sources: KubernetesSources): KubernetesOptions | undefined {
  const host = sources.env("KUBERNETES_SERVICE_HOST"), port = sources.env("KUBERNETES_SERVICE_PORT");
  if (!host || !port || sources.readFile(`${accountDir}/token`) === undefined) return undefined;
  const name = host.includes(":") ? `[${host}]` : host;
  return {
    server: `https://${name}:${port}`,
    ca: { file: `${accountDir}/ca.crt` },
    token: { file: `${accountDir}/token` },
  };
}

function fromKubeconfig(path: string, sources: KubernetesSources): KubernetesOptions {
  const bad = (what: string, code: "bad-input" | "unsupported" = "bad-input") =>
    new Problem({ code, what, where: path, todo: "Correct the kubeconfig" });
  const text = sources.readFile(path);
  if (text === undefined) throw bad("kubeconfig does not exist");
  const config = parse(text, sources, bad);
  const context = named(config.contexts, config["current-context"], "context");
  const cluster = named(config.clusters, context?.cluster, "cluster");
  const user = named(config.users, context?.user, "user") ?? {};
  if (!cluster || typeof cluster.server !== "string") throw bad("kubeconfig has no server in its current context");
  if (cluster["insecure-skip-tls-verify"] === true) throw bad("certificates are always verified", "unsupported");
  if (user.exec !== undefined || user["auth-provider"] !== undefined) {
    throw bad("only tokens and client certificates can be used", "unsupported");
  }
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const pem = (from: Record<string, Json>, member: string): Pem | undefined => {
    const data = from[`${member}-data`];
    if (typeof data === "string" && data !== "") return { text: atob(data) };
    const file = from[member];
    return typeof file === "string" && file !== "" ? { file: file.startsWith("/") ? file : folder + file } : undefined;
  };
  return {
    server: cluster.server,
    ca: pem(cluster, "certificate-authority"),
    token: tokenOf(user, folder),
    cert: pem(user, "client-certificate"),
    key: pem(user, "client-key"),
  };
}

function tokenOf(user: Record<string, Json>, folder: string): KubernetesOptions["token"] {
  const file = user.tokenFile;
  if (typeof file === "string" && file !== "") return { file: file.startsWith("/") ? file : folder + file };
  return typeof user.token === "string" && user.token !== "" ? { text: user.token } : undefined;
}

function parse(
  text: string,
  sources: KubernetesSources,
  bad: (what: string) => Problem,
): Record<string, Json> {
  let value: unknown;
  try {
    value = sources.parseYaml(text);
  } catch (error) {
    throw bad(`kubeconfig is not YAML: ${error instanceof Error ? error.message.split("\n")[0] : error}`);
  }
  if (!isObject(value)) throw bad("kubeconfig is not an object");
  return value;
}

/** The entry of a kubeconfig's list with this name: `[{name, <member>: {…}}]`. */
function named(list: Json | undefined, name: Json | undefined, member: string): Record<string, Json> | undefined {
  if (!Array.isArray(list)) return undefined;
  const entry = list.find((item) => isObject(item) && item.name === name);
  const value = isObject(entry) ? entry[member] : undefined;
  return isObject(value) ? value : undefined;
}
