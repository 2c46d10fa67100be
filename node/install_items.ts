import { knownSettings } from "./settings.ts";
import type { Item } from "./install_plan.ts";
import { defaultUnitPaths, units } from "./units.ts";

/** What `tortie install` is told. */
export interface InstallOptions {
  /** Put before every path; for images and tests. "" = this host. */
  root: string;
  binDir: string;
  cniBinDir: string;
  cniConfDir: string;
  /** File name of the CNI configuration. */
  cniConfName: string;
  unitDir: string;
  /** For pods' labels and annotations; "" = no Kubernetes. */
  kubeconfig: string;
  /** What is written to accountKubeconfig; "" = nothing. */
  kubeconfigText: string;
  /** Settings to put into the environment file. */
  set: Record<string, string>;
  cni: boolean;
  systemd: boolean;
}

/** The default places. */
export const defaultInstallOptions: InstallOptions = {
  root: "",
  binDir: "/usr/local/bin",
  cniBinDir: "/opt/cni/bin",
  cniConfDir: "/etc/cni/net.d",
  cniConfName: "10-calico.conflist",
  unitDir: "/etc/systemd/system",
  kubeconfig: "",
  kubeconfigText: "",
  set: {},
  cni: true,
  systemd: true,
};

/** Where the settings lie that the units read. */
export const environmentFile = defaultUnitPaths.environmentFile;

/** The kubeconfig with the token of the node's service account: among the state, for the unit may not write to /etc. */
export const accountKubeconfig = "/var/lib/tortie/kubeconfig";

/** Where the manifest lies. */
export const manifestFile = "/var/lib/tortie/installed.json";

/**
 * Everything that an installation puts on the disk, in order; the CNI configuration is last, for it makes the runtime use
 * us. Paths are without `root`.
 * @param source the program to copy, and its SHA-256. @param has true when a CNI plugin is in the CNI folder.
 */
export function installItems(
  options: InstallOptions,
  source: { path: string; digest: string },
  has: (plugin: string) => boolean,
): Item[] {
  const binary = `${options.binDir}/tortie`;
  const link = (path: string): Item => ({ path, is: "link", target: binary });
  const file = (path: string, text: string, mode = 0o644): Item => ({ path, is: "file", text, mode });
  const items: Item[] = [
    { path: binary, is: "copy", from: source.path, digest: source.digest, mode: 0o755 },
    link(`${options.binDir}/calicoctl`),
  ];
  if (options.cni) {
    for (const name of ["calico", "calico-ipam", "tortie-ipam"]) items.push(link(`${options.cniBinDir}/${name}`));
  }
  if (options.kubeconfigText !== "") {
    items.push({ path: accountKubeconfig, is: "file", text: options.kubeconfigText, mode: 0o600, keep: "renewed" });
  }
  if (options.systemd) {
    items.push({ path: environmentFile, is: "file", text: environmentText(options.set), mode: 0o600, keep: "edited" });
    const texts = units({ ...defaultUnitPaths, binary });
    for (const [name, text] of Object.entries(texts)) items.push(file(`${options.unitDir}/${name}`, text));
  }
  if (options.cni) items.push(file(`${options.cniConfDir}/${options.cniConfName}`, cniConfig(options, has)));
  return items;
}

/** A new environment file: the given settings, and the most used ones as comments. */
export function environmentText(set: Record<string, string>): string {
  const shown = ["ETCD_ENDPOINTS", "NODENAME", "IP", "IP_AUTODETECTION_METHOD", "AS", "CALICO_IPV4POOL_CIDR"];
  const hints = knownSettings.filter((s) => shown.includes(s.name) && !(s.name in set))
    .map((s) => `# ${s.what}\n#${s.name}=\n`);
  return `# Settings of tortie, with Calico's names.\n\n${assignments(set)}${hints.join("")}`;
}

/** An environment file with settings changed or added; everything else of it stays. */
export function withSettings(text: string, set: Record<string, string>): string {
  if (text.includes(assignments(set))) return text;
  const isSet = (line: string) => Object.keys(set).some((name) => line.startsWith(`${name}=`));
  const rest = text.split("\n").filter((line) => !isSet(line)).join("\n");
  return `${rest}${rest === "" || rest.endsWith("\n") ? "" : "\n"}${assignments(set)}`;
}

/** Quoted as systemd reads it (systemd.exec(5), EnvironmentFile): backslash and quote are escaped. */
const assignments = (set: Record<string, string>): string =>
  Object.entries(set).map(([name, value]) => `${name}="${value.replace(/[\\"$\x60]/g, "\\$&")}"\n`).join("");

/** The network that the runtime gives to pods: us, then the chained plugins that this host has. */
function cniConfig(options: InstallOptions, has: (plugin: string) => boolean): string {
  const kubernetes = options.kubeconfig === ""
    ? {}
    : { policy: { type: "k8s" }, kubernetes: { kubeconfig: options.kubeconfig } };
  const chained = [
    { type: "portmap", snat: true, capabilities: { portMappings: true } },
    { type: "bandwidth", capabilities: { bandwidth: true } },
  ];
  const plugins = [
    { type: "calico", log_level: "info", datastore_type: "etcdv3", ipam: { type: "calico-ipam" }, ...kubernetes },
    ...chained.filter(({ type }) => has(type)),
  ];
  return JSON.stringify({ name: "k8s-pod-network", cniVersion: "1.0.0", plugins }, null, 2) + "\n";
}
