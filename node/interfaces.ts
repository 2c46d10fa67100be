import { type Cidr, type Family, type Ip, isGlobalUnicast } from "../lib/ip.ts";

/** An address of an interface, host bits kept: `cidr` is its network. */
export interface LocalAddress {
  ip: Ip;
  cidr: Cidr;
  /** A privacy address (RFC 8981) or a deprecated one: it will go by itself. */
  passing?: boolean;
}

/** An interface of this host, as the choice of the node's address sees it. */
export interface LocalInterface {
  name: string;
  index: number;
  /** "veth", "bridge", …; undefined for hardware. */
  kind?: string;
  /** The administrator wants it up. */
  up: boolean;
  /** In the kernel's order. */
  addresses: LocalAddress[];
  /** Families whose default route leaves through it. */
  defaultRoute: Family[];
}

/** One entry of a Node's `spec.interfaces`. */
export interface NodeInterface {
  name: string;
  addresses?: string[];
}

/** Start-anchored patterns of interfaces that the system, a runtime or we make. Source: Calico's autodetection_linux.go. */
const excludedNames = [
  "docker.*",
  "cbr.*",
  "dummy.*",
  "podman.*",
  "virbr.*",
  "lxcbr.*",
  "veth.*",
  "lo",
  "br-.*",
  "cali.*",
  "tunl.*",
  "flannel.*",
  "kube-ipvs.*",
  "cni.*",
  "vxlan\\.calico.*",
  "vxlan-v6\\.calico.*",
  "wireguard\\.cali.*",
  "wg-v6\\.cali.*",
  "nodelocaldns.*",
];
const excluded = new RegExp(`^(${excludedNames.join("|")})`);

/** True for names that autodetection leaves out unless it is told of them. `lo` stands for every name that begins so. */
export const isExcludedByDefault = (name: string): boolean => excluded.test(name);

/**
 * Interfaces that come and go with containers: the host's end of a veth has no address that others could reach. To list
 * them in the Node would write it for every pod whose interface is not named like ours.
 */
export const isVolatile = (one: LocalInterface): boolean =>
  one.kind === "veth" && !one.addresses.some((a) => isGlobalUnicast(a.ip));
