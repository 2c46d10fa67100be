import { sameIp } from "../../lib/ip.ts";
import { table } from "../../kernel/rtnetlink/route.ts";
import type { Change } from "../../kernel/rtnetlink/changes.ts";
import { type Address, addressKey } from "../../kernel/rtnetlink/address.ts";
import { type Forwarding, forwardingKey } from "../../kernel/rtnetlink/forwarding.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";
import { type Neighbour, neighbourKey } from "../../kernel/rtnetlink/neighbour.ts";
import { type Route, routeKey, sameRoute } from "../../kernel/rtnetlink/route.ts";
import {
  isTunnelName,
  type Ownership,
  ownsAddress,
  ownsNeighbour,
  ownsRoute,
  ownsWireguardRoute,
  ownsWireguardRule,
} from "../network/ownership.ts";
import { type Rule, ruleKey } from "../../kernel/rtnetlink/rule.ts";
import type { WantedNetwork } from "../network/wanted.ts";
import type { KernelPorts } from "./_ports.ts";

/**
 * Raises doubt where a change of the kernel does not fit what is wanted. The echo of our own writes fits, so it costs
 * nothing; so does what others do to things that are not ours.
 * @returns true when there is something to look at.
 */
export function doubtAfter(change: Change, wanted: WantedNetwork, ports: KernelPorts, ours: Ownership): boolean {
  switch (change.what) {
    case "link":
      return isTunnelName(change.link.name, ours.settings)
        ? doubtTunnel(change.link, change.removed, wanted, ports)
        : doubtLink(change.link.index, change.removed, change.link.up, wanted, ports);
    case "address":
      return doubtAddress(change.address, change.removed, wanted, ports, ours);
    case "forwarding":
      return doubtForwarding(change.forwarding, change.removed, wanted, ports);
    case "route":
      return doubtRoute(change.route, change.removed, wanted, ports, ours);
    case "rule":
      return doubtRule(change.rule, change.removed, wanted, ports, ours);
    case "neighbour":
      return doubtNeighbour(change.neighbour, change.removed, wanted, ports, ours);
    case "sysctl":
      return doubtSysctls(change.index, wanted, ports);
    default:
      return false;
  }
}

/** What cannot be seen in a link (a VXLAN's number) changes only with the device. */
function doubtTunnel(link: Link, removed: boolean, wanted: WantedNetwork, ports: KernelPorts): boolean {
  const want = wanted.tunnels.get(link.name);
  const fits = want
    ? !removed && link.up === want.up && link.kind === want.kind && (!want.mac || link.mac === want.mac) &&
      link.mtuBytes === want.mtuBytes
    : removed;
  if (fits) return false;
  ports.tunnels.doubt();
  ports.doubtTunnels();
  return true;
}

function doubtAddress(
  address: Address,
  removed: boolean,
  wanted: WantedNetwork,
  ports: KernelPorts,
  ours: Ownership,
): boolean {
  const isWanted = wanted.addresses.has(addressKey(address));
  const fits = isWanted ? !removed : removed || !ownsAddress(address, ours);
  // With its last address an interface loses its IPv4 routes, without a word.
  if (!fits) ports.doubtTunnels();
  return !fits;
}

function doubtForwarding(entry: Forwarding, removed: boolean, wanted: WantedNetwork, ports: KernelPorts): boolean {
  if (!wanted.forwarders.includes(entry.index)) return false;
  const want = wanted.forwarding.get(forwardingKey(entry));
  const fits = want ? !removed && sameIp(want.ip, entry.ip) : removed;
  if (!fits) ports.forwarding.doubt();
  return !fits;
}

/** The kernel drops routes of an interface that goes down without telling of the IPv4 ones. */
function doubtLink(index: number, removed: boolean, up: boolean, wanted: WantedNetwork, ports: KernelPorts): boolean {
  if (!wanted.links.has(index) || (up && !removed)) return false;
  ports.links.doubt([index]);
  ports.doubtRoutes();
  return true;
}

function doubtRoute(
  route: Route,
  removed: boolean,
  wanted: WantedNetwork,
  ports: KernelPorts,
  ours: Ownership,
): boolean {
  if (route.table !== table.main) return doubtWireguardRoute(route, removed, wanted, ports, ours);
  const [port, all] = route.dst.v === 4 ? [ports.routes4, wanted.routes4] : [ports.routes6, wanted.routes6];
  const want = all.get(routeKey(route));
  const fits = want ? !removed && sameRoute(route, want) : removed || !ownsRoute(route, ours);
  if (!fits) port.doubt();
  return !fits;
}

function doubtWireguardRoute(
  route: Route,
  removed: boolean,
  wanted: WantedNetwork,
  ports: KernelPorts,
  ours: Ownership,
): boolean {
  const { v } = route.dst;
  if (route.table !== ours.settings.wireguard.table[v]) return false;
  const want = (v === 4 ? wanted.wireguardRoutes4 : wanted.wireguardRoutes6).get(routeKey(route));
  const fits = want ? !removed && sameRoute(route, want) : removed || !ownsWireguardRoute(route, ours);
  if (!fits) ports.doubtWireguardRoutes();
  return !fits;
}

function doubtRule(
  rule: Rule,
  removed: boolean,
  wanted: WantedNetwork,
  ports: KernelPorts,
  ours: Ownership,
): boolean {
  if (!ownsWireguardRule(rule, rule.family, ours.settings)) return false;
  const fits = (rule.family === 4 ? wanted.rules4 : wanted.rules6).has(ruleKey(rule)) !== removed;
  if (!fits) ports.doubtWireguardRoutes();
  return !fits;
}

function doubtNeighbour(
  neighbour: Neighbour,
  removed: boolean,
  wanted: WantedNetwork,
  ports: KernelPorts,
  ours: Ownership,
): boolean {
  if (neighbour.proxy) return false;
  const [port, all] = neighbour.ip.v === 4
    ? [ports.neighbours, wanted.neighbours]
    : [ports.neighbours6, wanted.neighbours6];
  const want = all.get(neighbourKey(neighbour));
  const fits = want
    ? !removed && neighbour.permanent && neighbour.mac === want.mac
    : removed || !neighbour.permanent || !ownsNeighbour(neighbour, ours);
  if (!fits) port.doubt();
  return !fits;
}

/** The kernel tells which interface's switches changed, not which switch: those of "all" and "default" are the host's. */
function doubtSysctls(index: number, wanted: WantedNetwork, ports: KernelPorts): boolean {
  const keys = wanted.sysctlsOf.get(index < 0 ? 0 : index) ?? [];
  ports.sysctls.doubt(keys);
  return keys.length > 0;
}
