import type { Family } from "../../lib/ip.ts";
import type { Sysctl } from "../../kernel/sysctl.ts";
import type { NetworkSettings } from "../desired.ts";

/** MAC of the host side of every pair: pods may be moved without learning another one. */
export const hostMac = "ee:ee:ee:ee:ee:ee";

/**
 * Switches of the host side of a pair. IPv4: the host answers ARP for 169.254.1.1 at once (proxy_arp, proxy_delay), and
 * forwards. IPv6: a link-local address made of the MAC, usable at once, and proxy NDP.
 * @param families those in which the endpoint has addresses. @param rpFilter `conf/default/rp_filter` at start.
 * Source: Calico felix/dataplane/linux/endpoint_mgr.go configureInterface, cni-plugin/pkg/dataplane/linux.
 */
export function hostSideSysctls(hostInterface: string, families: Family[], rpFilter?: string): Sysctl[] {
  const all: Sysctl[] = [{ path: `net/ipv6/conf/${hostInterface}/accept_ra`, value: "0", optional: true }];
  const v4 = `net/ipv4/conf/${hostInterface}`, v6 = `net/ipv6/conf/${hostInterface}`;
  if (families.includes(4)) {
    all.push(
      { path: `${v4}/route_localnet`, value: "1" },
      { path: `net/ipv4/neigh/${hostInterface}/proxy_delay`, value: "0" },
      { path: `${v4}/proxy_arp`, value: "1" },
      { path: `${v4}/forwarding`, value: "1" },
    );
    if (rpFilter !== undefined) all.push({ path: `${v4}/rp_filter`, value: rpFilter });
  }
  if (families.includes(6)) {
    all.push(
      { path: `${v6}/disable_ipv6`, value: "0" },
      { path: `${v6}/addr_gen_mode`, value: "0" },
      { path: `${v6}/accept_dad`, value: "0" },
      { path: `${v6}/proxy_ndp`, value: "1" },
      { path: `${v6}/forwarding`, value: "1" },
    );
  }
  return all;
}

/** Switches inside the pod. The order matters: IPv6 must be on before the interface gets addresses. */
export function podSysctls(interfaceName: string, families: Family[], ipForwarding: boolean): Sysctl[] {
  const forwarding = ipForwarding ? "1" : "0";
  const v6 = (name: string) => `net/ipv6/conf/${name}`;
  return [
    ...(families.includes(4) ? [{ path: "net/ipv4/ip_forward", value: forwarding }] : []),
    ...(families.includes(6)
      ? [
        ...["all", "default", "lo", interfaceName].map((name) => ({ path: `${v6(name)}/disable_ipv6`, value: "0" })),
        { path: `${v6(interfaceName)}/accept_dad`, value: "0" },
        { path: `${v6("all")}/forwarding`, value: forwarding },
      ]
      : []),
  ];
}

/**
 * Switches of the whole host: it forwards; with WireGuard between hosts the check of sources looks at marks.
 * Source: FelixConfiguration.ipForwarding, ipv6Support; Calico's felix/wireguard/wireguard.go ensureLink.
 */
export function hostSysctls(settings: Pick<NetworkSettings, "ipForwarding" | "ipv6" | "wireguard">): Sysctl[] {
  const { enabled, hostEncryption } = settings.wireguard;
  return [
    ...(settings.ipForwarding ? [{ path: "net/ipv4/ip_forward", value: "1" }] : []),
    ...(settings.ipForwarding && settings.ipv6
      ? [{ path: "net/ipv6/conf/all/forwarding", value: "1", optional: true }]
      : []),
    ...(enabled[4] && hostEncryption ? [{ path: "net/ipv4/conf/all/src_valid_mark", value: "1" }] : []),
    { path: "net/netfilter/nf_conntrack_acct", value: "1", optional: true },
  ];
}
