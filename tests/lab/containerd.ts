import { Cri, openCri } from "./cri.ts";
import type { Host, HostProcess } from "./host.ts";
import { labImage } from "./image.ts";
import { wait } from "./wait.ts";

/** A pod to run, by the names that end up in CNI_ARGS. */
export interface PodPlan {
  namespace: string;
  name: string;
  uid: string;
  /** A port of the host that the runtime tells CNI to map to port 80. */
  hostPort?: number;
}

/** A pod that runs. */
export interface Pod extends PodPlan {
  /** Sandbox id = CNI_CONTAINERID. */
  readonly id: string;
  /** The CNI answer's addresses, without lengths. */
  readonly addresses: string[];
  /** Path of its network namespace inside the host. */
  readonly netns: string;
  /** Starts a container in it. Its words, e.g. `["httpd", "-f"]`, are busybox's. */
  start(words: string[]): Promise<void>;
  /** Runs words in the container that was started; busybox's programs are on its PATH. */
  exec(words: string[], timeoutS?: number): Promise<{ code: number; stdout: string; stderr: string }>;
  /** StopPodSandbox: the runtime calls CNI DEL. */
  stop(): Promise<void>;
  /** Stop, and forget it. */
  remove(): Promise<void>;
}

/** containerd and runc on a host, spoken to as the kubelet does. */
export interface Runtime extends AsyncDisposable {
  readonly process: HostProcess;
  readonly cri: Cri;
  /** RunPodSandbox: the runtime makes the namespace and calls CNI ADD. @throws with the plugin's own words. */
  runPod(plan: PodPlan): Promise<Pod>;
  /** Ids of the sandboxes that the runtime knows. */
  sandboxes(): Promise<string[]>;
}

/** Folders of the host that the runtime takes CNI from. */
export const cniBinDir = "/opt/cni/bin";
/** Where the runtime reads the network configuration. */
export const cniConfDir = "/etc/cni/net.d";

const config = `
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${labImage}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${cniBinDir}"
    conf_dir = "${cniConfDir}"
`;

/**
 * Starts containerd on a host and loads the image that makeImage() wrote. Pods can run once a network configuration is in cniConfDir:
 * runPod waits for the runtime to have seen it. The reference plugins are linked into cniBinDir.
 * @param cgroup name of the control group that holds the pods: the lab's prefix, so that the lab removes it.
 */
export async function startContainerd(host: Host, image: string, cgroup: string): Promise<Runtime> {
  await host.runOk("sh", ["-c", `mkdir -p ${cniBinDir} ${cniConfDir} && ln -sf /usr/lib/cni/* ${cniBinDir}/`]);
  await Deno.writeTextFile(`${host.dir}/containerd.toml`, config);
  const process = await host.start("containerd", "containerd", ["-c", `${host.dir}/containerd.toml`]);
  const cri = openCri(host.path("/run/containerd/containerd.sock"));
  await wait(`containerd on ${host.name}`, async () => {
    if (process.isEnded) return true;
    await cri.call("Status", {}, 1000);
    return true;
  }, { deadlineMs: 20_000 });
  if (process.isEnded) throw new Error(`containerd on ${host.name} ended:\n${process.logTail()}`);
  await host.runOk("ctr", ["-n", "k8s.io", "images", "import", image]);
  return runtimeOf(host, process, cri, cgroup);
}

/** The runtime of a host whose containerd runs already. */
export function runtimeOf(host: Host, process: HostProcess, cri: Cri, cgroup: string): Runtime {
  return {
    ...{ process, cri },
    async runPod(plan) {
      await networkReady(host, cri);
      const { namespace, name, uid, hostPort } = plan;
      const sandbox = {
        metadata: { namespace, name, uid, attempt: 0 },
        port_mappings: hostPort ? [{ protocol: 0, container_port: 80, host_port: hostPort }] : [],
        hostname: plan.name,
        linux: { cgroup_parent: `/${cgroup}` },
        labels: { "io.kubernetes.pod.name": plan.name, "io.kubernetes.pod.namespace": plan.namespace },
      };
      const { pod_sandbox_id: id } = await cri.call<{ pod_sandbox_id: string }>("RunPodSandbox", { config: sandbox });
      return await podOf(cri, plan, id, sandbox);
    },
    async sandboxes() {
      return (await cri.call<{ items: { id: string }[] }>("ListPodSandbox", {})).items.map((s) => s.id);
    },
    async [Symbol.asyncDispose]() {
      cri[Symbol.dispose]();
      await process.kill();
    },
  };
}

async function networkReady(host: Host, cri: Cri): Promise<void> {
  await wait(`containerd on ${host.name} to see a network configuration`, async () => {
    const { status } = await cri.call<{ status: { conditions: { type: string; status: boolean }[] } }>("Status", {});
    return status.conditions.find((c) => c.type === "NetworkReady")?.status;
  });
}

async function podOf(cri: Cri, plan: PodPlan, id: string, sandbox: unknown): Promise<Pod> {
  const seen = await cri.call<
    { status: { network: { ip: string; additional_ips: { ip: string }[] } }; info: Record<string, string> }
  >("PodSandboxStatus", { pod_sandbox_id: id, verbose: true });
  const spec = JSON.parse(seen.info["info"] ?? "{}").runtimeSpec as {
    linux?: { namespaces?: { type: string; path?: string }[] };
  } | undefined;
  let container = "";
  return {
    ...plan,
    id,
    addresses: [seen.status.network.ip, ...seen.status.network.additional_ips.map((a) => a.ip)].filter((a) => a !== ""),
    netns: spec?.linux?.namespaces?.find((n) => n.type === "network")?.path ?? "",
    async start(words) {
      const made = await cri.call<{ container_id: string }>("CreateContainer", {
        pod_sandbox_id: id,
        config: { metadata: { name: "main" }, image: { image: labImage }, command: ["/bin/busybox", ...words] },
        sandbox_config: sandbox,
      });
      container = made.container_id;
      await cri.call("StartContainer", { container_id: container });
    },
    async exec(words, timeoutS = 10) {
      const answer = await cri.call<{ stdout: Uint8Array; stderr: Uint8Array; exit_code: number }>("ExecSync", {
        container_id: container,
        cmd: words,
        timeout: timeoutS,
      });
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
      return { code: answer.exit_code, stdout: text(answer.stdout), stderr: text(answer.stderr) };
    },
    stop: async () => void await cri.call("StopPodSandbox", { pod_sandbox_id: id }),
    async remove() {
      await cri.call("StopPodSandbox", { pod_sandbox_id: id });
      await cri.call("RemovePodSandbox", { pod_sandbox_id: id });
    },
  };
}
