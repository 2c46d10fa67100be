import type { Encapsulation, NetworkSettings } from "../desired.ts";
import type { HostInterface } from "./interfaces.ts";

/** What the outer headers take of a packet, in bytes. */
const overhead: Record<Encapsulation, number> = { ipip: 20, vxlan4: 50, vxlan6: 70 };
/** Calico's value for a host on which no interface matches. */
const unknownHostMtu = 1460;

/**
 * MTU of new pods: the smallest that any way to another node can carry. The host's is that of its smallest interface that
 * is up and matches `mtuIfacePattern`; a configured tunnel MTU wins over host minus overhead.
 * Source: Calico felix/dataplane/linux/int_dataplane.go findHostMTU, ConfigureDefaultMTUs, determinePodMTU.
 */
export function podMtu(
  interfaces: Iterable<HostInterface>,
  encapsulations: ReadonlySet<Encapsulation>,
  settings: Pick<NetworkSettings, "mtuInterfacePattern" | "tunnelMtu">,
): number {
  const pattern = new RegExp(settings.mtuInterfacePattern);
  const matching = [...interfaces].filter((i) => i.up && pattern.test(i.name)).map((i) => i.mtuBytes);
  const host = matching.length > 0 ? Math.min(...matching) : unknownHostMtu;
  const tunnels = [...encapsulations].map((e) => settings.tunnelMtu[e] || host - overhead[e]);
  return tunnels.length > 0 ? Math.min(...tunnels) : host;
}
