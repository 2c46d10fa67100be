import { contains, formatCidr, sameIp, tryParseCidr, tryParseCidrOrIp } from "../../../lib/ip.ts";
import { kind, type Route } from "../../../kernel/rtnetlink/route.ts";
import { exclusiveProtocol, isPodInterface } from "../../../agent/network/ownership.ts";
import { check } from "../check.ts";
import type { WayFact } from "../facts.ts";

/** Who may program routes within a pool, by rtnetlink's numbers: the kernel, BIRD, Calico. */
const ownProtocols = [2, 12, 80];

/** Routes of this host, and whether packets really get to other nodes. */
export const routeChecks = [
  check({
    id: "route-missing",
    about: "every block of another node has a route",
    looksAt: ["host", "objects", "ipam", "routes"],
    fault: "there is no route to {block}, the block of node {node}",
    cure:
      "Where a tunnel leads there the agent makes it, else BIRD learns it: see `tortie ctl node status` here and on {node}, " +
      "and export filters of BGP between them.",
    find({ host, objects, ipam, routes }) {
      const { wireguard } = objects.settings;
      const unicast = routes.filter((r) => r.dst.len > 0 && r.kind === kind.unicast);
      const exact = new Set(unicast.map((r) => formatCidr(r.dst)));
      return ([4, 6] as const).filter((v) => !wireguard.enabled[v]).flatMap((v) => ipam.view.blocks(v))
        .flatMap(({ value: { cidr, affinity } }) => {
          const node = affinity?.startsWith("host:") ? affinity.slice("host:".length) : undefined;
          if (node === undefined || node === host.nodeName || !ipam.nodes.has(node)) return [];
          const leads = exact.has(formatCidr(cidr)) || unicast.some((r) => contains(r.dst, cidr));
          return leads ? [] : [{ block: formatCidr(cidr), node }];
        });
    },
  }),
  check({
    id: "endpoint-route-missing",
    about: "every pod of this node has its route",
    looksAt: ["host", "objects", "routes", "interfaces"],
    fault: "workload endpoint {name} ({address}) has no route to {device}",
    cure: "See `tortie ctl node status`. A pod whose interface is gone stays until its runtime removes it.",
    find({ host, objects, routes, interfaces }) {
      const own = objects.endpoints.filter(({ spec }) => spec.node === host.nodeName);
      return own.flatMap(({ metadata, spec }) =>
        (spec.ipNetworks ?? []).flatMap((address) => {
          const net = tryParseCidrOrIp(address);
          const device = spec.interfaceName ?? "";
          const isThere = net && routes.some((r) =>
            r.dst.len === net.len && sameIp(r.dst, net) && interfaces.links.get(r.index ?? -1)?.name === device
          );
          return isThere ? [] : [{ name: `${metadata.namespace}/${metadata.name}`, address, device }];
        })
      );
    },
  }),
  check({
    id: "route-foreign",
    about: "nobody else routes addresses of a pool",
    looksAt: ["objects", "routes", "interfaces"],
    fault: "a route of somebody else lies in pool {pool}: {route}",
    cure: "`ip route del {destination}`, and find who makes it (rtnetlink protocol {protocol}).",
    find: ({ objects, routes, interfaces }) =>
      objects.pools.flatMap(({ metadata, spec }) => {
        const cidr = tryParseCidr(spec.cidr);
        const foreign = routes.filter((r) => cidr && contains(cidr, r.dst) && isForeign(r));
        return foreign.map((r) => {
          const destination = formatCidr(r.dst), on = interfaces.links.get(r.index ?? -1)?.name;
          const route = `${destination}${on ? ` dev ${on}` : ""}`;
          return { pool: metadata.name, route, destination, protocol: r.protocol };
        });

        function isForeign(r: Route): boolean {
          const on = interfaces.links.get(r.index ?? -1)?.name ?? "";
          return !ownProtocols.includes(r.protocol) && r.protocol !== exclusiveProtocol(objects.settings) &&
            !isPodInterface(on, objects.settings) && !interfaces.tunnels.has(on);
        }
      }),
  }),
  check({
    id: "node-unreachable",
    about: "every other node answers",
    looksAt: ["ways"],
    fault: "node {node} does not answer at {address}",
    cure: "See that the machine runs and what is between (ICMP echo has to pass). If it is gone for good: " +
      "`tortie ctl delete node {node}`.",
    find: ({ ways }) => ways.filter((w) => w.is === "host" && !w.small).map(({ node, address }) => ({ node, address })),
  }),
  check({
    id: "tunnel-blocked",
    about: "tunnels carry packets to every other node",
    looksAt: ["ways"],
    fault: "node {node} answers at {host} and not through {device} at {address}",
    cure:
      "Let the outer packets pass between the nodes: UDP 4789 for VXLAN, IP protocol 4 for IPIP, UDP 51820 for WireGuard. " +
      "See that both ends have the same port and network number.",
    find: ({ ways }) =>
      ways.filter((w) => w.is === "tunnel" && !w.small).flatMap((w) => {
        const host = hostWay(ways, w.node);
        return host?.small ? [{ node: w.node, host: host.address, device: w.device, address: w.address }] : [];
      }),
  }),
  check({
    id: "mtu-black-hole",
    about: "packets as large as the device takes get to every other node",
    looksAt: ["ways"],
    fault: "node {node} gets small packets and none of {mtu} bytes, though {device} takes them: larger transfers hang",
    cure:
      "Give {device} the MTU of the narrowest part of the way (`ip link set {device} mtu …`; tunnels: vxlanMTU, ipipMTU, " +
      'wireguardMTU), or let ICMP "fragmentation needed" pass on the way.',
    find: ({ ways }) =>
      ways.filter((w) => w.small && !w.large && (w.is === "host" || hostWay(ways, w.node)?.large !== false))
        .map(({ node, device, mtuBytes }) => ({ node, device, mtu: mtuBytes })),
  }),
];

const hostWay = (ways: readonly WayFact[], node: string): WayFact | undefined =>
  ways.find((w) => w.node === node && w.is === "host");
