import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { type Metrics, noMetrics } from "../../lib/metrics.ts";
import { Problem } from "../../lib/problem.ts";
import { type Counts, type Port, Reconciler, type Report } from "../../kernel/reconcile.ts";
import { filePort } from "../../kernel/files.ts";
import { sysctlPort } from "../../kernel/sysctl.ts";
import { addressPort } from "../../kernel/rtnetlink/address.ts";
import { bandwidthPort } from "../../kernel/rtnetlink/bandwidth.ts";
import { forwardingPort } from "../../kernel/rtnetlink/forwarding.ts";
import { linkStatePort } from "../../kernel/rtnetlink/link.ts";
import { farMtuPort } from "../../kernel/rtnetlink/far_mtu.ts";
import { neighbourPort } from "../../kernel/rtnetlink/neighbour.ts";
import { routePort } from "../../kernel/rtnetlink/route.ts";
import { rulePort } from "../../kernel/rtnetlink/rule.ts";
import type { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { tunnelDevicePort } from "../../kernel/rtnetlink/tunnel_device.ts";
import { peerPort, type WireguardDevice, wireguardPort } from "../../kernel/rtnetlink/wireguard.ts";
import type { NetworkSettings } from "../desired.ts";
import {
  isPodInterface,
  ownDevices,
  type Ownership,
  ownsAddress,
  ownsNeighbour,
  ownsRoute,
  ownsWireguardRoute,
  ownsWireguardRule,
  tunnelNames,
} from "../network/ownership.ts";
import type { EndpointEntries, WantedNetwork } from "../network/wanted.ts";

/** Whether one sort of thing in the kernel is as wanted. */
export interface PortStatus {
  /** "routes ip4 table 254". */
  name: string;
  wanted: number;
  /** What is not in sync and why; empty = in sync. */
  failed: { key: string; why: string; times: number }[];
}

/** What a WireGuard device is set to in the kernel, that the kernel refuses it, or undefined = neither is known yet. */
export type WireguardDeviceState = WireguardDevice | "refused" | undefined;

/**
 * In which order things are made; they are broken backwards. What is before `links` must be there before a packet can
 * pass (chains and sets join there); what is after it needs the interface up.
 * DIFFERS: Calico's CNI plugin raises the interface itself, and Calico leaves it down when someone sets it down.
 */
const order = [
  ...["files", "sysctls", "bandwidths", "tunnels", "links"] as const,
  ...["farMtus", "addresses", "neighbours", "neighbours6", "forwarding", "routes4", "routes6"] as const,
  // The rules lead packets into WireGuard: all that it needs is there before, and they go first.
  ...["wireguard", "peers", "wireguardRoutes4", "wireguardRoutes6", "rules4", "rules6"] as const,
];
type Name = typeof order[number];
const raise: Name = "links";

/** A refusal may pass by itself (an interface that is just being replaced); so many in a row, within half a second, do not. */
const hopelessAfter = 3;

/** What the ports need of their owner. */
export interface PortsOptions {
  clock: Clock;
  random: () => number;
  metrics?: Metrics;
  /** The kernel has IPv6. */
  ipv6: boolean;
  mtuFile: string | undefined;
  wanted(): WantedNetwork | undefined;
  ownership(): Ownership;
}

/** The kernel's ports of this node's network, each behind its reconciler, in their order. */
export class KernelPorts {
  readonly #ipv6: boolean;
  /** Those that the settings leave on; the others are not touched. */
  #active: Name[] = [];
  readonly files;
  readonly sysctls;
  readonly bandwidths;
  readonly tunnels;
  readonly links;
  readonly farMtus;
  readonly addresses;
  readonly neighbours;
  readonly neighbours6;
  readonly forwarding;
  readonly routes4;
  readonly routes6;
  readonly wireguard;
  readonly peers;
  readonly wireguardRoutes4;
  readonly wireguardRoutes6;
  readonly rules4;
  readonly rules6;

  /** `generic` speaks generic netlink. */
  constructor(socket: RtSocket, generic: RtSocket, options: PortsOptions) {
    const { clock, random, mtuFile } = options;
    this.#ipv6 = options.ipv6;
    const empty = new Map();
    // The kernel acknowledges each netlink entry and tells of later changes; a written file proves nothing.
    const acked = <K, V>(port: Port<K, V>) => new Reconciler(port, { clock, random, verify: "ack" });
    const owns = (r: Parameters<typeof ownsRoute>[0]) => ownsRoute(r, options.ownership());
    const timed = <K, V>(port: Port<K, V>) => ({ ...port, list: () => timedList(port, options) });
    this.files = new Reconciler(filePort("files", () => (mtuFile === undefined ? [] : [mtuFile])), { clock, random });
    this.sysctls = new Reconciler(sysctlPort(() => options.wanted()?.sysctls ?? empty, clock), { clock, random });
    this.bandwidths = acked(bandwidthPort(socket, (name) => isPodInterface(name, options.ownership().settings)));
    this.links = acked(linkStatePort(socket, () => options.wanted()?.links.keys() ?? []));
    const ownNeighbours = (v: Family) => acked(neighbourPort(socket, v, (n) => ownsNeighbour(n, options.ownership())));
    this.neighbours = ownNeighbours(4);
    this.neighbours6 = ownNeighbours(6);
    this.tunnels = acked(tunnelDevicePort(socket, {
      ours: () => ownDevices(options.ownership().settings),
      shared: new Set([tunnelNames.ipip]),
      wanted: () => options.wanted()?.tunnels.keys() ?? [],
    }));
    this.farMtus = acked(farMtuPort(socket, () => options.wanted()?.farMtus.keys() ?? []));
    this.addresses = acked(addressPort(socket, (a) => ownsAddress(a, options.ownership())));
    this.forwarding = acked(forwardingPort(socket, () => options.wanted()?.forwarders ?? []));
    this.routes4 = acked(timed(routePort(socket, { family: 4, owns })));
    this.routes6 = acked(timed(routePort(socket, { family: 6, owns })));
    const devices = () => options.wanted()?.wireguard.keys() ?? [];
    this.wireguard = acked(wireguardPort(generic, devices));
    this.peers = acked(peerPort(generic, devices));
    const settings = () => options.ownership().settings;
    const ownTable = (family: Family) =>
      acked(routePort(socket, {
        ...{ family, name: `routes ip${family} of wireguard`, table: () => settings().wireguard.table[family] },
        owns: (r) => ownsWireguardRoute(r, options.ownership()),
      }));
    this.wireguardRoutes4 = ownTable(4);
    this.wireguardRoutes6 = ownTable(6);
    const ownRules = (family: Family) =>
      acked(rulePort(socket, family, (r) => ownsWireguardRule(r, family, settings())));
    this.rules4 = ownRules(4);
    this.rules6 = ownRules(6);
  }

  /** Wants all of this and nothing else. */
  want(wanted: WantedNetwork): void {
    this.files.wantAll(wanted.files);
    this.sysctls.wantAll(wanted.sysctls);
    this.bandwidths.wantAll(wanted.bandwidths);
    this.links.wantAll(wanted.links);
    this.tunnels.wantAll(wanted.tunnels);
    this.farMtus.wantAll(wanted.farMtus);
    this.addresses.wantAll(wanted.addresses);
    this.neighbours.wantAll(wanted.neighbours);
    this.neighbours6.wantAll(wanted.neighbours6);
    this.forwarding.wantAll(wanted.forwarding);
    this.routes4.wantAll(wanted.routes4);
    this.routes6.wantAll(wanted.routes6);
    this.wireguard.wantAll(wanted.wireguard);
    this.peers.wantAll(wanted.peers);
    this.wireguardRoutes4.wantAll(wanted.wireguardRoutes4);
    this.wireguardRoutes6.wantAll(wanted.wireguardRoutes6);
    this.rules4.wantAll(wanted.rules4);
    this.rules6.wantAll(wanted.rules6);
  }

  /**
   * Makes what must hold before packets pass, then raises. `raised` = some interface is there or up that was not: what
   * was on one that it replaces is gone without a word. `tunnels` = it is a tunnel's.
   */
  async makeBeforeRoutes(): Promise<{ raised: boolean; tunnels: boolean; reports: Report[] }> {
    const reports: Report[] = [];
    for (const name of order.slice(0, order.indexOf(raise) + 1)) reports.push(await this[name].flush("make"));
    const [tunnels, links] = reports.slice(-2) as [Report, Report];
    if (tunnels.put > 0) this.doubtTunnels();
    const made = tunnels.put > 0;
    return { raised: links.put > links.failed.size || made, tunnels: made, reports };
  }

  /** Makes the rest, then breaks everything backwards. */
  async finish(settings: NetworkSettings): Promise<Report[]> {
    const active = order.filter((name) => isActive(name, { ...settings, ipv6: settings.ipv6 && this.#ipv6 }));
    const reports: Report[] = [];
    for (const name of active.filter((name) => order.indexOf(name) > order.indexOf(raise))) {
      reports.push(await this[name].flush("make"));
    }
    for (const name of active.toReversed()) reports.push(await this[name].flush("break"));
    this.#active = active;
    return reports;
  }

  /** See WireguardDeviceState. */
  wireguardDevice(name: string): WireguardDeviceState {
    const wanted = this.wireguard.wanted(name);
    if (wanted && this.wireguard.holds(name)) return wanted;
    const failure = this.tunnels.failed.get(name) ?? this.wireguard.failed.get(name);
    return failure && failure.times >= hopelessAfter ? "refused" : undefined;
  }

  /** In how many milliseconds something is to be tried again; Infinity = nothing is. */
  retryInMs(): number {
    return Math.min(...this.#active.map((name) => this[name].retryInMs ?? Infinity));
  }

  /** Nothing is to be done and nothing failed. */
  inSync(): boolean {
    return this.#active.every((name) => this[name].inSync);
  }

  /** Everything may be other than we know. */
  doubtAll(): void {
    for (const name of order) this[name].doubt();
  }

  /** Somebody may have changed routes or neighbours. */
  doubtRoutes(): void {
    for (const name of ["neighbours", "neighbours6", "forwarding", "routes4", "routes6"] as const) this[name].doubt();
    this.doubtWireguardRoutes();
  }

  /** Somebody may have changed WireGuard's tables, or the rules that lead there. */
  doubtWireguardRoutes(): void {
    for (const name of ["wireguardRoutes4", "wireguardRoutes6", "rules4", "rules6"] as const) this[name].doubt();
  }

  /** A tunnel's device changed: so may have all that is on it. */
  doubtTunnels(): void {
    for (const name of ["addresses", "wireguard", "peers"] as const) this[name].doubt();
    this.doubtRoutes();
  }

  /** Somebody may have changed interfaces or their switches. */
  doubtInterfaces(): void {
    const names = [
      "files",
      "sysctls",
      "bandwidths",
      "tunnels",
      "links",
      "farMtus",
      "addresses",
      "wireguard",
      "peers",
    ] as const;
    for (const name of names) this[name].doubt();
  }

  /**
   * What of an endpoint is not there yet; undefined = all is.
   * @throws Problem "kernel" when the kernel refused a part several times: waiting longer is no use to who waits.
   */
  missing(entries: EndpointEntries): string | undefined {
    return this.#lacking(this.sysctls, entries.sysctls) ?? this.#lacking(this.links, entries.links) ??
      (entries.raised ? undefined : "its interface is down") ??
      this.#lacking(this.neighbours, entries.neighbours) ?? this.#lacking(this.routes4, entries.routes4) ??
      this.#lacking(this.routes6, entries.routes6);
  }

  #lacking<K, V>(port: Reconciler<K, V>, keys: K[]): string | undefined {
    for (const key of keys) {
      const failure = port.failed.get(key);
      if (failure && failure.times >= hopelessAfter) {
        throw new Problem({ code: "kernel", what: `kernel refused: ${failure.why}`, where: `${port.name} ${key}` });
      }
      if (failure) return `${port.name} ${key}: ${failure.why}`;
      if (!port.holds(key)) {
        return port.unread ? `${port.name}: ${port.unread.why}` : `${port.name}: ${key} is not there`;
      }
    }
    return undefined;
  }

  /** What is wanted and what fails, by port. */
  status(): PortStatus[] {
    return this.#active.map((name) => {
      const port: Reconciler<unknown, unknown> = this[name];
      const failed = [...port.failed].map(([key, { why, times }]) => ({ key: String(key), why, times }));
      const unread = port.unread ? [{ key: "", why: port.unread.why, times: port.unread.times }] : [];
      return { name: port.name, wanted: port.size, failed: [...unread, ...failed] };
    });
  }

  /** Totals by port. */
  counts(): Record<string, Readonly<Counts>> {
    return Object.fromEntries(order.map((name) => [this[name].name, this[name].counts]));
  }
}

async function timedList<K, V>(port: Port<K, V>, { clock, metrics = noMetrics }: PortsOptions): Promise<Map<K, V>> {
  const began = clock.monotonicMs();
  const found = await port.list();
  metrics.observe("felix_route_table_resync_seconds", (clock.monotonicMs() - began) / 1000);
  return found;
}

/** Routes may be switched off as a whole, and IPv6: then what is there stays as it is. */
function isActive(name: Name, settings: NetworkSettings): boolean {
  if (name === "neighbours6") return settings.ipv6;
  if (["routes6", "wireguardRoutes6", "rules6"].includes(name)) return settings.ipv6 && !settings.routeSyncDisabled;
  return ["routes4", "neighbours", "wireguardRoutes4", "rules4"].includes(name) ? !settings.routeSyncDisabled : true;
}
