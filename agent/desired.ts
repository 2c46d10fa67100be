import type { Cidr, Family, Ip } from "../lib/ip.ts";
import type { TokenBucket } from "../kernel/rtnetlink/traffic_control.ts";

/** What an endpoint may receive and send; what is absent is not limited. */
export interface BandwidthLimits {
  ingress?: TokenBucket;
  egress?: TokenBucket;
}

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
  /** It may send from networks that are not its own. */
  spoofs?: boolean;
  /** How much it may receive and send. */
  bandwidth?: BandwidthLimits;
}

/** A way to carry pods' packets to other nodes; VXLAN by the version of the outer packet. */
export type Encapsulation = "ipip" | "vxlan4" | "vxlan6";

/** A node's end of the VXLAN of one IP version. */
export interface Vtep {
  /** Its address inside the tunnel. */
  ip: Ip;
  /** `aa:bb:cc:dd:ee:ff` */
  mac: string;
  /** The node's address, which outer packets go to. */
  host: Ip;
}

/** This node's end of a tunnel. */
export interface OwnTunnel {
  /** Its address inside the tunnel. */
  ip: Ip;
  /** VXLAN only. */
  mac: string | undefined;
}

/** How packets to addresses of other nodes leave this one. */
export interface ClusterRoute {
  dst: Cidr;
  /** Straight to the node's own address, or into a tunnel. */
  by: "direct" | "ipip" | "vxlan";
  /** Next hop: the node's address, for VXLAN its VTEP's; undefined = `dst` is the VTEP itself. */
  via: Ip | undefined;
}

/** Settings of WireGuard; what is by version goes by that of the pods' packets. */
export interface WireguardSettings {
  enabled: Record<Family, boolean>;
  deviceName: Record<Family, string>;
  /** UDP port here and at every other node. */
  port: Record<Family, number>;
  /** 0 = that of the host less the outer headers. */
  mtuBytes: Record<Family, number>;
  /** The rule that leads into the table, and the table. */
  rulePriority: number;
  table: Record<Family, number>;
  /** Mark of the outer packets, by which they leave as without WireGuard; 0 = the mark mask has no bit for it. */
  mark: number;
  /** Packets between hosts are encrypted too. */
  hostEncryption: boolean;
  /** Packets to pods of other nodes leave encrypted or not at all. */
  mandatory: boolean;
  /** 0 = none is sent. */
  keepaliveSeconds: number;
  /** Keys are made for a round: another word makes new ones. */
  keyRound: string;
}

/** WireGuard of one IP version: who is reached through it. */
export interface WireguardPlan {
  /** Address of the device; undefined = it has none yet. */
  ip: Ip | undefined;
  /** `endpoint` is the node's address. */
  peers: readonly { node: string; publicKey: string; endpoint: Ip; allowed: readonly Cidr[] }[];
  /** Networks with an owner that is no peer: they are reached as without WireGuard. */
  bypassed: readonly Cidr[];
  /** Networks that are reached by a longer one's peer, or not at all. Empty unless encryption is mandatory. */
  closed: readonly Cidr[];
}

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
  /** Endpoints may send from the networks that they are allowed to. */
  sourceSpoofing: boolean;
  /** This host forwards. */
  ipForwarding: boolean;
  ipv6: boolean;
  /** Names of interfaces whose MTU is the host's: a regular expression. */
  mtuInterfacePattern: string;
  /** MTU of each tunnel; 0 = that of the host less the tunnel's overhead. */
  tunnelMtu: Record<Encapsulation, number>;
  /** Switches IPIP, and VXLAN of IPv4, on or off, whatever the pools say; undefined = the pools decide. */
  ipipEnabled: boolean | undefined;
  vxlanEnabled: boolean | undefined;
  /** VXLAN network identifier and outer UDP port. */
  vxlanVni: number;
  vxlanPort: number;
  wireguard: WireguardSettings;
  /** Between two looks at everything, in milliseconds: routes, and interfaces with their switches. */
  routeRefreshMs: number;
  interfaceRefreshMs: number;
}

/**
 * What must hold on this node: the seam between knowing and doing. A dataplane gets the whole of it each time and finds
 * out itself what to change. Policies and sets are in desired_policy.ts.
 */
export interface Desired {
  /** By key. */
  endpoints: ReadonlyMap<string, LocalEndpoint>;
  /** Blocks of this node whose unused addresses must not leave by the default route. */
  blackholes: readonly Cidr[];
  /** Those that any pool uses. */
  encapsulations: ReadonlySet<Encapsulation>;
  /** This node's addresses, by which its own interface to the others is found. */
  ownAddresses: Partial<Record<Family, Ip>>;
  /** This node's ends of the tunnels that are on. */
  tunnels: Partial<Record<Encapsulation, OwnTunnel>>;
  /** The other nodes' ends of the VXLANs, by version of the outer packet. */
  vteps: Record<Family, readonly Vtep[]>;
  /** By `dst`. The same object as long as nothing in it changed. */
  clusterRoutes: ReadonlyMap<string, ClusterRoute>;
  /** Of the versions that it is on for. The same object as long as nothing in it changed. */
  wireguard: Partial<Record<Family, WireguardPlan>>;
  settings: NetworkSettings;
}
