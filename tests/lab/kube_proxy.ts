import type { Host, HostProcess } from "./host.ts";
import { type ControlPlane, kubernetesBinaries } from "./kubernetes.ts";

/** Starts a real kube-proxy on a host, which writes rules with iptables of a variant. */
export async function startKubeProxy(host: Host, plane: ControlPlane, variant: "legacy" | "nft"): Promise<HostProcess> {
  const programs = `${host.dir}/iptables-${variant}`;
  await Deno.mkdir(programs, { recursive: true });
  for (const name of ["iptables", "ip6tables"].flatMap((n) => [n, `${n}-save`, `${n}-restore`])) {
    await Deno.symlink(`/usr/sbin/xtables-${variant}-multi`, `${programs}/${name}`).catch((error) => {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    });
  }
  const kubeconfig = await plane.kubeconfigFor("system:kube-proxy", "lab");
  const config = {
    ...{ apiVersion: "kubeproxy.config.k8s.io/v1alpha1", kind: "KubeProxyConfiguration", mode: "iptables" },
    ...{ clientConnection: { kubeconfig }, clusterCIDR: "10.244.0.0/16", hostnameOverride: host.name },
    ...{ healthzBindAddress: "127.0.0.1:10256", metricsBindAddress: "127.0.0.1:10249" },
    // The kernel's table of connections belongs to this machine.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
    iptables: { syncPeriod: "5s", minSyncPeriod: "0s" },
  };
  const file = `${host.dir}/kube-proxy.json`;
  await Deno.writeTextFile(file, JSON.stringify(config));
  return await host.start("kube-proxy", `${kubernetesBinaries}/kube-proxy`, [`--config=${file}`], {
    PATH: `${programs}:${Deno.env.get("PATH")}`,
  });
}
