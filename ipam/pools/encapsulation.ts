import { type Cidr, contains, type Ip } from "../../lib/ip.ts";

/** A mode of IPPool.spec.ipipMode or vxlanMode. Absent and "" are Never. */
export type EncapsulationMode = "Never" | "Always" | "CrossSubnet";

/** The part of an IPPool that says how packets to it travel. */
export interface PoolEncapsulation {
  ipipMode?: string;
  vxlanMode?: string;
}

/** How packets to a pool's addresses travel between nodes; WireGuard lies below that and is not a pool's matter. */
export interface Encapsulation {
  kind: "none" | "ipip" | "vxlan";
  /** True: nodes of one subnet reach each other without the tunnel. */
  crossSubnet: boolean;
}

/** The encapsulation that a pool asks for. VXLAN wins where both are set (the validation refuses that). */
export function encapsulationOf(pool: PoolEncapsulation): Encapsulation {
  const kind = isOn(pool.vxlanMode) ? "vxlan" : isOn(pool.ipipMode) ? "ipip" : "none";
  const mode = kind === "vxlan" ? pool.vxlanMode : pool.ipipMode;
  return { kind, crossSubnet: kind !== "none" && mode === "CrossSubnet" };
}

/**
 * How this node sends to an address of the pool that another node holds: through the tunnel or straight to that node.
 * @param own this node's address with its subnet, as the Node resource has it (`spec.bgp.ipv4Address`).
 * @param remote the other node's address. Unknown addresses count as another subnet.
 */
export function encapsulationTo(
  pool: PoolEncapsulation,
  own: Cidr | undefined,
  remote: Ip | undefined,
): Encapsulation["kind"] {
  const { kind, crossSubnet } = encapsulationOf(pool);
  return crossSubnet && own && remote && contains(own, remote) ? "none" : kind;
}

const isOn = (mode: string | undefined) => mode === "Always" || mode === "CrossSubnet";
