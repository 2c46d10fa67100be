import { contains, type Family, formatCidr, type Ip, parseCidr, tryParseCidr } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { parseSelector } from "../datastore/selector/index.ts";

/** The spec of a pool to create; the kind's defaults are filled in by whoever writes it. */
export interface PoolSpec {
  cidr: string;
  ipipMode: "Never" | "Always" | "CrossSubnet";
  vxlanMode: "Never" | "Always" | "CrossSubnet";
  natOutgoing?: true;
  blockSize: number;
  nodeSelector?: string;
  disableBGPExport?: true;
}

/** A pool to create. */
export interface DefaultPool {
  name: "default-ipv4-ippool" | "default-ipv6-ippool";
  spec: PoolSpec;
}

/** What the decision depends on. */
export interface PoolInputs {
  setting(name: string): string | undefined;
  /** CIDRs of all pools that exist, disabled ones too; what is no CIDR is left out. */
  existing: string[];
  /** All addresses of this host. */
  hostAddresses: Ip[];
  /** The kernel has IPv6 (there is /proc/sys/net/ipv6). */
  kernelHasIpv6: boolean;
  /** Values of the kubeadm-config ConfigMap; undefined when it is not kubeadm's cluster. */
  kubeadmConfig?: string[];
  /** In [0, 1). */
  random: () => number;
}

/**
 * Pools that a cluster without pools of a family gets at the first start of a node. The settings are checked even when
 * nothing is to be created; no setting changes an existing pool.
 * Source: Calico's node/pkg/lifecycle/startup, configureIPPools.
 * @throws Problem "bad-input" naming the setting.
 */
export function defaultPools(inputs: PoolInputs): DefaultPool[] {
  const cidrs = { 4: inputs.setting("CALICO_IPV4POOL_CIDR") ?? "", 6: inputs.setting("CALICO_IPV6POOL_CIDR") ?? "" };
  if (inputs.setting("NO_DEFAULT_POOLS")?.toLowerCase() === "true") {
    const set = ([4, 6] as const).find((f) => cidrs[f] !== "");
    if (!set) return [];
    throw new Problem({
      code: "bad-input",
      what: `NO_DEFAULT_POOLS and ${poolSetting(set, "CIDR")} exclude each other`,
      where: poolSetting(set, "CIDR"),
      todo: "Unset one of them",
    });
  }
  const families = ([4, 6] as const).filter((f) => cidrs[f] !== "none");
  const planned = families.map((family) => ({ family, pool: poolOf(family, cidrs[family], inputs) }));
  return planned.filter(({ family }) => isMissing(family, inputs)).map(({ pool }) => pool);
}

/** Name of a pool setting: `CALICO_IPV4POOL_<what>`. */
const poolSetting = (family: Family, what: string): string => `CALICO_IPV${family}POOL_${what}`;

function isMissing(family: Family, inputs: PoolInputs): boolean {
  if (inputs.existing.some((c) => tryParseCidr(c)?.v === family)) return false;
  if (family === 4) return true;
  return inputs.kernelHasIpv6 && inputs.setting("FELIX_IPV6SUPPORT")?.toLowerCase() !== "false";
}

function poolOf(family: Family, cidr: string, inputs: PoolInputs): DefaultPool {
  const text = cidr || (kubeadmCidr(family, inputs.kubeadmConfig) ?? freeCidr(family, inputs));
  const net = tryParseCidr(text);
  if (net?.v !== family) {
    throw new Problem({
      code: "bad-input",
      what: `"${text}" is not an IPv${family} CIDR`,
      where: poolSetting(family, "CIDR"),
    });
  }
  const nodeSelector = inputs.setting(poolSetting(family, "NODE_SELECTOR"));
  if (nodeSelector) checkSelector(nodeSelector, poolSetting(family, "NODE_SELECTOR"));
  return {
    name: `default-ipv${family}-ippool`,
    spec: {
      cidr: formatCidr(net),
      ipipMode: family === 4 ? mode(inputs, "CALICO_IPV4POOL_IPIP") : "Never",
      vxlanMode: mode(inputs, poolSetting(family, "VXLAN")),
      ...(isOn(inputs, poolSetting(family, "NAT_OUTGOING"), family === 4) && { natOutgoing: true as const }),
      blockSize: blockSize(family, inputs),
      ...(nodeSelector && { nodeSelector }),
      ...(isOn(inputs, poolSetting(family, "DISABLE_BGP_EXPORT"), false) && { disableBGPExport: true as const }),
    },
  };
}

function checkSelector(text: string, where: string): void {
  try {
    parseSelector(text);
  } catch (cause) {
    throw new Problem({ code: "bad-input", what: `node selector "${text}" is not understood`, where, cause });
  }
}

/** The first range of the family in the line `podSubnet: a,b` of kubeadm's configuration. */
function kubeadmCidr(family: Family, config: string[] | undefined): string | undefined {
  const line = config?.map((text) => /podSubnet: (.*)/.exec(text)?.[1]).find((found) => found !== undefined);
  return line?.split(",").map((c) => c.trim()).find((c) => tryParseCidr(c)?.v === family);
}

/** A range without an address of this host: 192.168.0.0/16, else 172.16.0.0/16 and following; IPv6 a random ULA (RFC 4193). */
function freeCidr(family: Family, inputs: PoolInputs): string {
  if (family === 6) return randomUla(inputs.random);
  const preferred = "192.168.0.0/16";
  const choices = [preferred, ...Array.from({ length: 16 }, (_, i) => `172.${16 + i}.0.0/16`)];
  const isFree = (text: string) => !inputs.hostAddresses.some((ip) => contains(parseCidr(text), ip));
  return choices.find(isFree) ?? preferred;
}

function randomUla(random: () => number): string {
  const group = () => Math.floor(random() * 0x10000);
  const first = 0xfd00 + Math.floor(random() * 0x100);
  const n = [first, group(), group()].reduce((n, part) => (n << 16n) | BigInt(part), 0n) << 80n;
  return formatCidr({ v: 6, n, len: 48 });
}

function blockSize(family: Family, inputs: PoolInputs): number {
  const where = poolSetting(family, "BLOCK_SIZE");
  const text = inputs.setting(where);
  const [min, max, usual] = family === 4 ? [20, 32, 26] : [116, 128, 122];
  if (!text) return usual;
  const size = /^[+-]?\d+$/.test(text) ? Number(text) : NaN;
  if (size >= min && size <= max) return size;
  throw new Problem({ code: "bad-input", what: `block size "${text}" is not a number from ${min} to ${max}`, where });
}

function mode(inputs: PoolInputs, where: string): PoolSpec["ipipMode"] {
  const text = inputs.setting(where) ?? "";
  switch (text.toLowerCase()) {
    case "":
    case "off":
    case "never":
      return "Never";
    case "crosssubnet":
    case "cross-subnet":
      return "CrossSubnet";
    case "always":
      return "Always";
    default:
      throw new Problem({
        code: "bad-input",
        what: `encapsulation mode "${text}" is not understood`,
        where,
        todo: "Use Never, Always or CrossSubnet",
      });
  }
}

/** Calico's reading: false, 0, no, n and f are off, every other value is on. */
function isOn(inputs: PoolInputs, name: string, otherwise: boolean): boolean {
  const text = inputs.setting(name);
  return text === undefined ? otherwise : !["false", "0", "no", "n", "f"].includes(text.toLowerCase());
}
