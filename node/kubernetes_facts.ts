import { tryParseIp } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem } from "../lib/problem.ts";
import { KubernetesClients } from "../datastore/kubernetes/client.ts";
import type { KubernetesFacts } from "./own_node.ts";
import type { Settings } from "./settings.ts";

/** At start services of the cluster may not work yet, so nobody waits long for them. */
const deadlineMs = 2_000;

/**
 * The Kubernetes API as start-up sees it: KUBECONFIG, or the service account of the pod we run in; undefined when there is
 * neither. A ConfigMap that we may not read counts as not there.
 * @throws Problem "bad-input" when KUBECONFIG names a file that cannot be read.
 */
export async function kubernetesFacts(
  settings: Pick<Settings, "get">,
  log: Logger,
): Promise<(KubernetesFacts & { hasNode(name: string): Promise<boolean> } & Disposable) | undefined> {
  const kubeconfig = settings.get("KUBECONFIG");
  if (!kubeconfig && !settings.get("KUBERNETES_SERVICE_HOST")) return undefined;
  const clients = new KubernetesClients({ deadlineMs });
  const client = await clients.for(kubeconfig ? { kubeconfig } : {}, (name) => settings.get(name));
  return {
    async internalIps(name) {
      const addresses = (await client.node(name)).status?.addresses ?? [];
      const internal = addresses.filter((a) => a.type === "InternalIP").map((a) => tryParseIp(a.address));
      return internal.filter((ip) => ip !== undefined);
    },
    async hasNode(name) {
      try {
        await client.node(name);
        return true;
      } catch (error) {
        if (!isProblem(error, "not-found")) throw error;
        return false;
      }
    },
    async configMap(name) {
      try {
        return Object.values((await client.configMap("kube-system", name)).data ?? {});
      } catch (error) {
        if (isProblem(error, "not-found")) return undefined;
        if (!isProblem(error, "unauthorized")) throw error;
        log.info("ConfigMap may not be read, so it is taken as not there", { name, why: error.what });
        return undefined;
      }
    },
    [Symbol.dispose]: () => clients[Symbol.dispose](),
  };
}
