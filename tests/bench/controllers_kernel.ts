import { systemClock } from "../../lib/clock.ts";
import { serveApi } from "../lab/api_server.ts";
import { freePorts, uniqueSuffix } from "../lab/port.ts";
import { settings } from "./controllers_objects.ts";
import { ControllersProcess } from "./controllers_process.ts";
import { KernelEye, seen } from "./kernel_eye.ts";
import { PolicyHost } from "./policy_host.ts";
import { endpoint, memberOf, type Stored } from "./policy_objects.ts";

/** Pods of other nodes whose label changes. */
const remote = 20;
/** Where the policy is: that of local endpoint 0 and of every remote one. */
const namespace = "n0", spread = 50;

/**
 * Milliseconds from the change of a pod's label in the API to the pod's address in a set of another node's kernel: through
 * the controllers, etcd and the agent, one after another; sorted.
 */
export async function labelToKernel(samples: number): Promise<number[]> {
  const dir = `/dev/shm/kc-bench-${uniqueSuffix()}`;
  await using host = await PolicyHost.make("nft", 1);
  try {
    // The thread is in the host's namespace: so are this server and the controllers.
    await using api = await serveApi(dir);
    const [metricsPort] = freePorts(1) as [number];
    await api.put({ kind: "Namespace", metadata: { name: namespace } });
    await api.put({
      kind: "NetworkPolicy",
      metadata: { name: "from-red", namespace },
      spec: { podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { color: "red" } } }] }] },
    });
    await host.put([
      endpoint(0, true, spread),
      ...Array.from({ length: remote }, (_, k) => endpoint((k + 1) * spread, false, spread)),
    ]);
    const [key, value] = settings(metricsPort);
    await host.put([{ key, resource: { apiVersion: "projectcalico.org/v3", ...value } as Stored["resource"] }]);
    for (let k = 0; k < remote; k++) await api.put(podOf(k, "blue"));
    await host.start();
    const env = { ETCD_ENDPOINTS: host.world.etcd.endpoint, KUBECONFIG: api.kubeconfig };
    await using controllers = new ControllersProcess(env, metricsPort);
    await controllers.inOrder(remote + 1);
    const times = await changes(host, samples, (k, color) => api.put(podOf(k, color)));
    await controllers.end();
    return times.sort((a, b) => a - b);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The pod of remote endpoint `k`. */
const podOf = (k: number, color: string) => {
  const { metadata: { namespace }, spec } = endpoint((k + 1) * spread, false, spread).resource as Stored["resource"] & {
    spec: { pod: string; node: string };
  };
  const ip = memberOf((k + 1) * spread, false);
  return {
    kind: "Pod",
    metadata: { name: spec.pod, namespace, labels: { app: "any", color } },
    spec: { nodeName: spec.node, serviceAccountName: "default" },
    status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
  };
};

async function changes(
  host: PolicyHost,
  samples: number,
  paint: (k: number, color: string) => Promise<void>,
): Promise<number[]> {
  using eye = new KernelEye(host.variant);
  const rules = () => host.rules();
  await host.settled("the policy's rule", (all) => setIn(all) !== undefined);
  const set = setIn(await rules())!, times: number[] = [];
  for (let k = -2; k < samples; k++) {
    const one = (k + 2) % remote, isRed = Math.floor((k + 2) / remote) % 2 === 0;
    const member = memberOf((one + 1) * spread, false), began = performance.now();
    await paint(one, isRed ? "red" : "blue");
    const took = await seen(`${member} in ${set}`, () => eye.hasMember(set, member) === isRed, began);
    if (k >= 0) times.push(took);
    await systemClock.sleep(100);
  }
  return times;
}

/** The set that the policy's rule looks into. */
const setIn = (rules: string[]): string | undefined =>
  rules.map((rule) => /knp\.default\.from-red.*--match-set (\S+)/.exec(rule)?.[1]).find((set) => set !== undefined);
