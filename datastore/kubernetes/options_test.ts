import { deepEqual, throws } from "node:assert/strict";
import { Problem } from "../../lib/problem.ts";
import { kubernetesOptions } from "./options.ts";

const config = {
  "current-context": "here",
  contexts: [{ name: "other", context: { cluster: "x", user: "x" } }, {
    name: "here",
    context: { cluster: "c", user: "u" },
  }],
  clusters: [{ name: "c", cluster: { server: "https://10.0.0.1:6443/", "certificate-authority": "ca.crt" } }],
  users: [{ name: "u", user: { tokenFile: "/etc/token", "client-certificate-data": btoa("CERT"), "client-key": "k" } }],
};

function sources(files: Record<string, unknown>, env: Record<string, string> = {}) {
  return {
    env: (name: string) => env[name],
    readFile: (path: string) => files[path] === undefined ? undefined : JSON.stringify(files[path]),
    parseYaml: (text: string) => JSON.parse(text) as unknown,
  };
}

Deno.test("kubernetesOptions() takes the current context of the kubeconfig; its relative files lie beside it", () => {
  deepEqual(kubernetesOptions({ kubeconfig: "/k/config" }, sources({ "/k/config": config })), {
    server: "https://10.0.0.1:6443",
    ca: { file: "/k/ca.crt" },
    token: { file: "/etc/token" },
    cert: { text: "CERT" },
    key: { file: "/k/k" },
  });
});

Deno.test("kubernetesOptions() lets the network configuration win; an API root loses its path", () => {
  const overrides = { kubeconfig: "/k/config", apiRoot: "https://api:1/api/v1/", token: "t", caFile: "/ca" };
  deepEqual(kubernetesOptions(overrides, sources({ "/k/config": config })), {
    server: "https://api:1",
    ca: { file: "/ca" },
    token: { text: "t" },
    cert: { text: "CERT" },
    key: { file: "/k/k" },
  });
});

Deno.test("kubernetesOptions() falls back to the pod's service account, and says when there is nothing", () => {
  const token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" };
  deepEqual(kubernetesOptions({}, sources({ [token]: "t" }, env)).server, "https://[fd00::1]:443");
  throws(() => kubernetesOptions({}, sources({}, env)), /no Kubernetes API server is configured/);
  throws(() => kubernetesOptions({}, sources({ [token]: "t" })), Problem);
});

Deno.test("kubernetesOptions() refuses a kubeconfig that it cannot follow, naming the file", () => {
  const withUser = (user: Record<string, unknown>) => ({ ...config, users: [{ name: "u", user }] });
  const insecure = [{ name: "c", cluster: { server: "https://a", "insecure-skip-tls-verify": true } }];
  const bad: unknown[] = [
    undefined,
    [],
    { ...config, "current-context": "gone" },
    { ...config, clusters: insecure },
    withUser({ exec: {} }),
    withUser({ "auth-provider": {} }),
  ];
  for (const file of bad) {
    throws(
      () => kubernetesOptions({ kubeconfig: "/k" }, sources({ "/k": file })),
      (e: unknown) => e instanceof Problem && e.where === "/k",
      JSON.stringify(file),
    );
  }
});
