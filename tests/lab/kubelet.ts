import type { Host, HostProcess } from "./host.ts";
import { type ControlPlane, kubernetesBinaries } from "./kubernetes.ts";
import { labImage } from "./image.ts";

/**
 * Starts a real kubelet on a host whose containerd runs; the node has the host's name.
 * @param prefix of the lab: control groups are named after it, so that the lab removes them.
 */
export async function startKubelet(host: Host, plane: ControlPlane, prefix: string): Promise<HostProcess> {
  const cgroup = `${prefix}-${host.name}`;
  await makeCgroups(cgroup);
  const kubeconfig = await plane.kubeconfigFor(`system:node:${host.name}`, "system:nodes");
  const config = {
    ...{ apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration" },
    ...{ cgroupDriver: "cgroupfs", cgroupRoot: `/${cgroup}`, cgroupsPerQOS: true, enforceNodeAllocatable: [] },
    ...{ failSwapOn: false, oomScoreAdj: 0, readOnlyPort: 0, healthzPort: 0, resolvConf: "" },
    ...{ nodeStatusUpdateFrequency: "2s", fileCheckFrequency: "1s", syncFrequency: "5s", runtimeRequestTimeout: "30s" },
    // This machine may be as full as it likes.
    evictionHard: { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%" },
    ...{ featureGates: { LocalStorageCapacityIsolation: false }, imageGCHighThresholdPercent: 100 },
    authentication: { x509: { clientCAFile: plane.caFile }, anonymous: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    // Nothing of the kernel's settings is the kubelet's here.
    ...{ protectKernelDefaults: false, makeIPTablesUtilChains: true },
  };
  const file = `${host.dir}/kubelet.json`;
  await Deno.writeTextFile(file, JSON.stringify(config));
  return await host.start("kubelet", `${kubernetesBinaries}/kubelet`, [
    ...[`--config=${file}`, `--kubeconfig=${kubeconfig}`, `--hostname-override=${host.name}`],
    ...[`--node-ip=${host.address}`, "--container-runtime=remote", "--network-plugin=cni"],
    ...[
      "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
      `--pod-infra-container-image=${labImage}`,
    ],
    ...["--runtime-cgroups=/"],
  ]);
}

/** A kubelet wants its root among the groups of each controller to be there (version 1). */
async function makeCgroups(name: string): Promise<void> {
  for (const { name: controller, isDirectory } of Deno.readDirSync("/sys/fs/cgroup")) {
    if (!isDirectory || controller === "unified") continue;
    const parent = `/sys/fs/cgroup/${controller}`, own = `${parent}/${name}`;
    await Deno.mkdir(own, { recursive: true });
    if (controller !== "cpuset") continue;
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      await Deno.writeTextFile(`${own}/${file}`, await Deno.readTextFile(`${parent}/${file}`));
    }
  }
}
