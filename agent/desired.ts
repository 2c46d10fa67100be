import type { Cidr, Ip } from "../lib/ip.ts";

/** An endpoint of this node as its network needs it: addresses, interface, MAC. */
export interface LocalEndpoint {
  /** Key of its WorkloadEndpoint in etcd. */
  key: string;
  /** Host side: `cali…`. Two endpoints of one interface: that with the smaller key has it. */
  interfaceName: string;
  /** `aa:bb:cc:dd:ee:ff` of the pod's side; undefined = the kernel asks by ARP. */
  mac: string | undefined;
  /** Its addresses, mostly /32 and /128. */
  nets: readonly Cidr[];
  /** External addresses that are mapped to it. */
  floatingIps: readonly Ip[];
}

/** A way to carry pods' packets to other nodes; VXLAN by the version of the outer packet. */
export type Encapsulation = "ipip" | "vxlan4" | "vxlan6";

/** Settings that the network of this node depends on; all from FelixConfiguration and the environment. */
export interface NetworkSettings {
  /** Names that begin with one of these are host sides of pods. */
  interfacePrefixes: readonly string[];
  /** rtnetlink protocol number of pods' routes. */
  routeProtocol: number;
  /** Every route on a pod's interface is ours, whoever made it. */
  removeExternalRoutes: boolean;
  /** Routes are neither made nor removed. */
  routeSyncDisabled: boolean;
  /** Metrics of pods' routes. */
  metric4: number;
  metric6: number;
  /** Source address of the host's own packets to pods. */
  source4: Ip | undefined;
  source6: Ip | undefined;
  /** External addresses get routes. */
  floatingIps: boolean;
  /** This host forwards. */
  ipForwarding: boolean;
  ipv6: boolean;
  /** Names of interfaces whose MTU is the host's: a regular expression. */
  mtuInterfacePattern: string;
  /** MTU of each tunnel; 0 = that of the host less the tunnel's overhead. */
  tunnelMtu: Record<Encapsulation, number>;
  /** Between two looks at everything, in milliseconds: routes, and interfaces with their switches. */
  routeRefreshMs: number;
  interfaceRefreshMs: number;
}

/**
 * What must hold on this node: the seam between knowing and doing. A dataplane gets the whole of it each time and finds
 * out itself what to change. Policies, sets and tunnels join here.
 */
export interface Desired {
  /** By key. */
  endpoints: ReadonlyMap<string, LocalEndpoint>;
  /** Blocks of this node whose unused addresses must not leave by the default route. */
  blackholes: readonly Cidr[];
  /** Those that any pool uses. */
  encapsulations: ReadonlySet<Encapsulation>;
  settings: NetworkSettings;
}
