import type { Host } from "./host.ts";
import type { Surroundings } from "./surroundings.ts";

/** A feature of the kernel: the module that has it, other names of it, and options that build it in. */
interface Feature {
  module: string;
  options: string[];
  others?: string[];
  optional?: boolean;
}

const option = (name: string) => `CONFIG_${name}`;
const match = (name: string) => option(`NETFILTER_XT_MATCH_${name}`);

/** What calicoctl looks for, in its order. Source: calicoctl commands/node/checksystem.go. */
const features: Feature[] = [
  { module: "ip_set", options: [option("IP_SET")] },
  { module: "ip6_tables", options: [option("IP6_NF_IPTABLES")], optional: true },
  { module: "ip_tables", options: [option("IP_NF_IPTABLES")] },
  { module: "ipt_ipvs", options: [match("IPVS")], others: ["xt_ipvs"] },
  { module: "vfio-pci", options: [option("VFIO"), option("VFIO_PCI")], others: ["vfio_pci"] },
  { module: "xt_bpf", options: [option("BPF"), match("BPF")], optional: true },
  {
    module: "ipt_REJECT",
    options: [option("IP_NF_TARGET_REJECT"), option("NFT_REJECT"), option("NETFILTER_XT_TARGET_REJECT")],
    others: ["xt_REJECT"],
  },
  {
    module: "xt_rpfilter",
    options: [option("IP_NF_MATCH_RPFILTER"), option("IP6_NF_MATCH_RPFILTER"), match("RPFILTER")],
    others: ["ipt_rpfilter"],
  },
  { module: "nf_conntrack_netlink", options: [option("NF_CT_NETLINK")] },
  { module: "xt_addrtype", options: [match("ADDRTYPE")] },
  { module: "xt_conntrack", options: [match("CONNTRACK")] },
  {
    module: "xt_mark",
    options: [option("NETFILTER_XT_MARK"), option("IP_NF_TARGET_MARK"), option("NETFILTER_XT_TARGET_MARK")],
  },
  { module: "xt_multiport", options: [match("MULTIPORT"), option("IP_NF_MATCH_MULTIPORT")] },
  { module: "xt_set", options: [option("NETFILTER_XT_SET")], others: ["ipt_set"] },
  { module: "xt_u32", options: [match("U32")], optional: true },
];

/** Oldest kernel with network namespaces and veth pairs. */
const oldest = [2, 6, 24];

/**
 * Prints of each feature whether this kernel has it, as calicoctl does; `lsmod` is not needed.
 * @param configFile the kernel's configuration; by default looked for in the usual places. @returns true when all is there.
 */
export async function checkSystem(surroundings: Surroundings, host: Host, configFile?: string): Promise<boolean> {
  const { out } = surroundings;
  const result = (name: string, word: string) => out(`\t\t${name.padEnd(20)}\t\t\t\t\t${word}\n`);
  const kernel = (await surroundings.readFile("/proc/sys/kernel/osrelease") ?? "").trim();
  out("Checking kernel version...\n");
  const isNew = isAtLeast(kernel, oldest);
  result(kernel, isNew ? "OK" : "FAIL");
  if (!isNew) out(`Minimum kernel version to run Calico is ${oldest.join(".")}. Detected kernel version: ${kernel}\n`);
  out("Checking kernel modules...\n");
  const texts = await kernelTexts(surroundings, kernel, configFile);
  let complete = isNew;
  for (const feature of features) {
    const has = await isThere(feature, texts, host);
    if (!has && feature.optional) {
      out(`WARNING: Unable to detect optional module/feature ${feature.module}; continuing\n`);
    } else if (!has) {
      out(`WARNING: Unable to detect the ${feature.module} module as Loaded/Builtin module or lsmod\n`);
    }
    result(feature.module, has ? "OK" : feature.optional ? "SKIP" : "FAIL");
    complete &&= has || feature.optional === true;
  }
  return complete;
}

interface KernelTexts {
  /** Lists of module files. */
  files: string;
  /** Loaded modules, one a line. */
  loaded: string;
  config: string;
}

async function kernelTexts({ readFile }: Surroundings, kernel: string, configFile?: string): Promise<KernelTexts> {
  const first = async (paths: string[]) => {
    for (const path of paths) {
      const text = await readFile(path);
      if (text !== undefined) return text;
    }
    return "";
  };
  const sources = [`/usr/src/linux-${kernel}`, `/usr/src/linux-headers-${kernel}`, `/lib/modules/${kernel}/build`];
  const usual = ["/usr/src/linux/.config", `/boot/config-${kernel}`, ...sources.map((folder) => `${folder}/.config`)];
  const lists = ["dep", "builtin"].map((name) => first([`/lib/modules/${kernel}/modules.${name}`]));
  return {
    files: (await Promise.all(lists)).join("\n"),
    loaded: await first(["/proc/modules"]),
    config: await first(configFile ? [configFile] : usual),
  };
}

async function isThere({ module, others = [], options }: Feature, texts: KernelTexts, host: Host): Promise<boolean> {
  for (const name of [module, ...others]) {
    const plain = name.replaceAll("-", "_");
    if (await host.exists(`/sys/module/${plain}`)) return true;
    if (new RegExp(`/${name}\\.ko`).test(texts.files) || new RegExp(`^${plain}\\s`, "m").test(texts.loaded)) {
      return true;
    }
  }
  return options.some((o) => new RegExp(`^${o}=[ym]`, "m").test(texts.config));
}

function isAtLeast(version: string, least: number[]): boolean {
  const numbers = version.split(/[^\d]+/).map(Number);
  const at = least.findIndex((n, i) => (numbers[i] ?? 0) !== n);
  return at < 0 || (numbers[at] ?? 0) > least[at]!;
}
