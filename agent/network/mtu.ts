import type { Family } from "../../lib/ip.ts";
import type { Encapsulation, NetworkSettings, WireguardSettings } from "../desired.ts";
import type { HostInterface } from "./interfaces.ts";

/** What the outer headers take of a packet, in bytes. */
const overhead: Record<Encapsulation, number> = { ipip: 20, vxlan4: 50, vxlan6: 70 };
const wireguardOverhead: Record<Family, number> = { 4: 60, 6: 80 };
/** Calico's value for a host on which no interface matches. */
const unknownHostMtu = 1460;

/**
 * The host's MTU: the smallest of its interfaces that are up and match `mtuIfacePattern`.
 * Source: Calico felix/dataplane/linux/int_dataplane.go findHostMTU.
 */
export function hostMtu(interfaces: Iterable<HostInterface>, mtuInterfacePattern: string): number {
  const pattern = new RegExp(mtuInterfacePattern);
  const matching = [...interfaces].filter((i) => i.up && pattern.test(i.name)).map((i) => i.mtuBytes);
  return matching.length > 0 ? Math.min(...matching) : unknownHostMtu;
}

/** A tunnel's MTU: what is configured, else the host's less what the outer headers take. */
export const tunnelMtu = (e: Encapsulation, host: number, { tunnelMtu }: Pick<NetworkSettings, "tunnelMtu">): number =>
  tunnelMtu[e] || host - overhead[e];

/** MTU of WireGuard's device: as tunnelMtu(). */
export const wireguardMtu = (v: Family, host: number, { mtuBytes }: Pick<WireguardSettings, "mtuBytes">): number =>
  mtuBytes[v] || host - wireguardOverhead[v];

/** MTU of pods: the smallest that any way to another node can carry. Source: Calico's determinePodMTU. */
export function podMtu(
  host: number,
  encapsulations: ReadonlySet<Encapsulation>,
  settings: Pick<NetworkSettings, "tunnelMtu" | "wireguard">,
): number {
  const { wireguard } = settings;
  const tunnels = [
    ...[...encapsulations].map((e) => tunnelMtu(e, host, settings)),
    ...([4, 6] as const).filter((v) => wireguard.enabled[v]).map((v) => wireguardMtu(v, host, wireguard)),
  ];
  return tunnels.length > 0 ? Math.min(...tunnels) : host;
}
