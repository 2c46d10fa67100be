import type { Clock } from "../../lib/clock.ts";
import type { Health } from "../../lib/health.ts";
import type { Logger } from "../../lib/log.ts";
import { type Family, type Ip, sameIp } from "../../lib/ip.ts";
import { type Metrics, noMetrics } from "../../lib/metrics.ts";
import { messageOf, Problem } from "../../lib/problem.ts";
import { kernelFeatures } from "../../kernel/features.ts";
import type { Counts } from "../../kernel/reconcile.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import { type Change, changes } from "../../kernel/rtnetlink/changes.ts";
import { listAddresses } from "../../kernel/rtnetlink/address.ts";
import { getLink, getPeer, listLinks } from "../../kernel/rtnetlink/link.ts";
import { genericProtocol } from "../../kernel/rtnetlink/generic.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { readWireguard, type WireguardState } from "../../kernel/rtnetlink/wireguard.ts";
import type { Desired, LocalEndpoint } from "../desired.ts";
import { EndpointMemory } from "../network/endpoint_entries.ts";
import { Interfaces } from "../network/interfaces.ts";
import { graceMs, isPodInterface, type Ownership } from "../network/ownership.ts";
import { ClusterRouteEntries } from "../network/tunnels.ts";
import type { WireguardKeys } from "../network/wireguard.ts";
import { type WantedNetwork, wantedNetwork } from "../network/wanted.ts";
import { doubtAfter } from "./_drift.ts";
import { EndedFlows } from "./_flows.ts";
import { KernelPorts, type PortStatus, type WireguardDeviceState } from "./_ports.ts";
import { Schedule } from "./_schedule.ts";
import { Waiters } from "./_waiters.ts";
import { Pulse } from "../../lib/pulse.ts";
import { Wake } from "../../lib/wake.ts";

export type { PortStatus, WireguardDeviceState } from "./_ports.ts";

/** What a Dataplane works with. */
export interface DataplaneOptions {
  clock: Clock;
  /** 0..1 source for jitter. */
  random: () => number;
  log: Logger;
  /** Part "dataplane" reports here. */
  health: Health;
  /** Default: nobody counts. */
  metrics?: Metrics;
  /** File in which CNI plugins find the MTU of new pods, Calico's own one by default; undefined = written nowhere. */
  mtuFile: string | undefined;
}

/** Where Calico's CNI plugin looks for the MTU of new pods. */
export const calicoMtuFile = "/var/lib/calico/mtu";

/** What `ctl node status` shows of the kernel. */
export interface DataplaneStatus {
  /** Something was wanted, and all of it holds. */
  inSync: boolean;
  endpoints: number;
  /** Interfaces of endpoints that there are. */
  interfaces: number;
  ports: PortStatus[];
}

/** The loop says that it lives at least so often; it is taken for dead after six times that. */
const heartbeatMs = 10_000;
/**
 * A pod's first packets are lost until the kernel has noticed, in its own time, that the host side came up: mostly at once,
 * later on a busy machine. Whoever waits for an endpoint waits for that too, at most so long, looking so often.
 */
const carrierMs = { most: 250, every: 2 };
/** So many interfaces are looked at one by one. */
const fewLinks = 20;
/** Wait before the kernel's changes are followed anew after an error. */
const followAgainMs = 1_000;

/** Keeps the kernel as desired: applies changes, repairs drift within a second, looks at everything periodically. */
export class Dataplane implements AsyncDisposable {
  readonly #options: DataplaneOptions;
  readonly #socket = RtSocket.open();
  readonly #generic = RtSocket.open(undefined, genericProtocol);
  readonly #interfaces = new Interfaces();
  readonly #clusterEntries = new ClusterRouteEntries();
  readonly #endpointEntries = new EndpointMemory();
  readonly #podMtus: Set<number>;
  readonly #ports: KernelPorts;
  readonly #waiters: Waiters;
  readonly #flows: EndedFlows;
  readonly #stop = new AbortController();
  readonly #rpFilter = readSysctl("net/ipv4/conf/default/rp_filter");
  readonly #tasks: Promise<void>[];
  #wireguardKeys: WireguardKeys = {};
  #desired: Desired | undefined;
  /** Interfaces of its endpoints, once somebody asked. */
  #wantedNames: ReadonlySet<string> | undefined;
  /** How many flushes began, and what the last one was for: `desired` may be newer. */
  #flushes = 0;
  #flushed: Desired | undefined;
  #wanted: WantedNetwork | undefined;
  /** Indexes of interfaces whose endpoint is or was known: what is on them is ours at once. */
  #known = new Set<number>();
  readonly #wake: Wake;
  readonly #changed = new Pulse();
  readonly #schedule: Schedule;
  #syncedOnce = false;

  private constructor(options: DataplaneOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
    this.#podMtus = new Set(mtuIn(options.mtuFile));
    this.#ports = new KernelPorts(this.#socket, this.#generic, {
      ...options,
      ipv6: kernelFeatures().ipv6,
      wanted: () => this.#wanted,
      ownership: () => this.#ownership(),
    });
    this.#schedule = new Schedule(options.clock, options.random);
    this.#waiters = new Waiters(options.clock, () => this.#wake.call());
    this.#flows = new EndedFlows(options.log, options.clock);
    options.health.register("dataplane", 6 * heartbeatMs);
    this.#tasks = [this.#follow(), this.#run()];
  }

  /** Opens its sockets and follows the kernel's changes. Touches nothing before the first apply(). @throws Problem. */
  static start(options: DataplaneOptions): Dataplane {
    return new Dataplane(options);
  }

  /** From now on this must hold. Returns at once; changes that come together are flushed together. */
  apply(desired: Desired): void {
    const before = this.#desired?.settings;
    this.#desired = desired;
    this.#wantedNames = undefined;
    if (JSON.stringify(before, replacer) !== JSON.stringify(desired.settings, replacer)) {
      this.#ports.doubtAll(); // what is ours may have changed with the settings
      this.#schedule.restart(desired.settings);
    }
    this.#wake.call();
  }

  /** Private keys of WireGuard's devices from now on; a version without one has no WireGuard. */
  useWireguardKeys(keys: WireguardKeys): void {
    if (keys[4] === this.#wireguardKeys[4] && keys[6] === this.#wireguardKeys[6]) return;
    this.#wireguardKeys = keys;
    this.#wake.call();
  }

  /** WireGuard's devices as the kernel has them now. @throws Problem "kernel". */
  wireguardDevices(): WireguardState[] {
    return readWireguard(this.#generic, this.#wanted?.wireguard.keys() ?? []);
  }

  /** How far the device of a version is. */
  wireguardDevice(v: Family): WireguardDeviceState {
    const name = this.#flushed?.settings.wireguard.deviceName[v];
    return name === undefined ? undefined : this.#ports.wireguardDevice(name);
  }

  /**
   * Resolves when the kernel has all that the endpoint needs: switches, (later: its chains,) then its host side is
   * raised, then routes and neighbours. So it may be called before the endpoint is known, and when it resolves pods are
   * reachable; nothing else needs to raise the interface.
   * @param is tells the endpoint that is meant from an older one of the same key: a re-created pod's.
   * @throws Problem "kernel" with the kernel's words; "not-ready" when `deadlineMs` (default 10,000) passes first, with
   * what is missing.
   */
  enforced(endpointKey: string, deadlineMs = 10_000, is = (_endpoint: LocalEndpoint) => true): Promise<void> {
    const sinceMs = this.#options.clock.monotonicMs();
    const firstFlush = this.#flushes + 1; // one that is under way may have looked before the interface was there
    const missing = () =>
      this.#flushes < firstFlush ? "the agent has not looked yet" : this.#missing(endpointKey, is, sinceMs);
    return this.#waiters.add(endpointKey, deadlineMs, missing);
  }

  /** What of an endpoint is not in the kernel; undefined = all is there. */
  lacking(endpointKey: string): string | undefined {
    try {
      return this.#missing(endpointKey, () => true, -Infinity);
    } catch (error) {
      return messageOf(error);
    }
  }

  /** Yields when something was written, or failed, or an address of ours has another rival than before. */
  changes(signal: AbortSignal): AsyncGenerator<void> {
    return this.#changed.beats(signal);
  }

  /** What `ctl node status` shows. */
  status(): DataplaneStatus {
    return {
      inSync: this.#syncedOnce && this.#ports.inSync(),
      endpoints: this.#desired?.endpoints.size ?? 0,
      interfaces: this.#wanted?.links.size ?? 0,
      ports: this.#ports.status(),
    };
  }

  /** Addresses of this node's that several interfaces have, with their names. */
  rivals(): ReadonlyMap<string, string> {
    return this.#wanted?.rivals ?? new Map();
  }

  /** Totals of each port, for metrics, and netlink requests that changed something. */
  counts(): { netlinkWrites: number; ports: Record<string, Readonly<Counts>> } {
    return { netlinkWrites: this.#socket.writes, ports: this.#ports.counts() };
  }

  /** Stops following and closes. What is programmed stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("dataplane is closed"));
    await Promise.all(this.#tasks);
    this.#waiters.rejectAll(new Problem({ code: "not-ready", what: "the agent is stopping" }));
    await this.#flows[Symbol.asyncDispose]();
    this.#socket[Symbol.dispose]();
    this.#generic[Symbol.dispose]();
  }

  /** Feeds the kernel's changes into doubt; lost ones and errors mean that everything is in doubt. */
  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const batch of changes(signal)) this.#observe(batch);
      } catch (error) {
        this.#options.log.error("kernel changes are not followed", { why: messageOf(error) });
        await this.#options.clock.sleep(followAgainMs, signal).catch(() => {});
      }
    }
  }

  #observe(batch: Change[]): void {
    const now = this.#options.clock.monotonicMs();
    let interesting = false;
    this.#count(batch);
    for (const change of batch) {
      if (change.what === "everything") {
        this.#lookAtLinks();
        this.#ports.doubtAll();
        interesting = true;
      } else if (change.what === "link") {
        const news = this.#interfaces.update(change.link, change.removed, now);
        interesting = (news && (change.removed || this.#mayBeWanted(change.link.name))) || interesting;
      } else if (change.what === "address") {
        const news = this.#interfaces.updateAddress(change.address, change.removed);
        if (news && this.#isOwnAddress(change.address.ip)) {
          this.#ports.doubtRoutes(); // those of its interface go with its last address, without a word
          interesting = true;
        }
      }
      if (this.#wanted) interesting = doubtAfter(change, this.#wanted, this.#ports, this.#ownership()) || interesting;
    }
    if (interesting) this.#wake.call();
  }

  #count(batch: readonly Change[]): void {
    const { metrics = noMetrics } = this.#options;
    const links = batch.filter((c) => c.what === "link").length;
    const addresses = batch.filter((c) => c.what === "address").length;
    if (links > 0) metrics.observe("felix_int_dataplane_iface_msg_batch_size", links);
    if (addresses > 0) metrics.observe("felix_int_dataplane_addr_msg_batch_size", addresses);
  }

  /** An ADD makes its interface before its endpoint is known: a flush between the two would find nothing to do. */
  #mayBeWanted(name: string): boolean {
    const desired = this.#desired;
    if (!desired || !isPodInterface(name, desired.settings)) return true;
    this.#wantedNames ??= new Set(desired.endpoints.values().map((e) => e.interfaceName));
    return this.#wantedNames.has(name);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#wake.sleep(this.#schedule.waitMs(heartbeatMs), signal);
      if (signal.aborted) return;
      try {
        this.#lookAgainIfDue();
        if (this.#desired) await this.#flush(this.#desired);
        this.#waiters.settle();
        this.#report();
      } catch (error) {
        // A port's failure is in its report; this is the socket itself, or a bug. Nothing is lost: the next turn starts over.
        this.#options.log.error("kernel was not brought up to date", { why: messageOf(error) });
        this.#options.health.report("dataplane", false, messageOf(error));
        this.#ports.doubtAll();
        this.#schedule.retryAt = this.#options.clock.monotonicMs() + followAgainMs;
      }
    }
  }

  /** Make in the ports' order, then break backwards. A raised interface is seen at once, because routes need it. */
  async #flush(desired: Desired): Promise<void> {
    this.#flushes++;
    this.#flushed = desired;
    this.#schedule.retryAt = Infinity;
    this.#lookForAwaited(desired);
    this.#want(desired);
    const before = await this.#ports.makeBeforeRoutes();
    if (before.raised) {
      if (before.tunnels) this.#lookAtLinks();
      else this.#lookAtRaised();
      this.#want(desired);
    }
    const reports = [...before.reports, ...await this.#ports.finish(desired.settings)];
    this.#flows.hold(desired.endpoints);
    const now = this.#options.clock.monotonicMs();
    this.#schedule.retryAt = now + this.#ports.retryInMs();
    this.#schedule.graceEndAt = this.#nextGraceEnd(now);
    for (const { port, drift } of reports) {
      if (drift > 0 && this.#syncedOnce) this.#options.log.info("drift repaired", { port, entries: drift });
    }
    if (reports.some((r) => r.put + r.removed + r.failed.size > 0)) this.#changed.beat();
  }

  #want(desired: Desired): void {
    const { mtuFile } = this.#options;
    const rivals = [...this.#wanted?.rivals ?? []].join();
    this.#wanted = wantedNetwork(desired, {
      ...{ interfaces: this.#interfaces, rpFilter: this.#rpFilter, mtuFile, clusterEntries: this.#clusterEntries },
      ...{ podMtus: this.#podMtus, endpointEntries: this.#endpointEntries },
      wireguardKeys: this.#wireguardKeys,
    });
    this.#podMtus.add(this.#wanted.podMtu);
    this.#known = new Set(
      [...this.#known].filter((index) => this.#interfaces.at(index)).concat(
        ...this.#wanted.links.keys(),
      ),
    );
    this.#ports.want(this.#wanted);
    if ([...this.#wanted.rivals].join() !== rivals) this.#changed.beat();
  }

  /** The notification of a new interface, or of one made anew, may still be under way when its endpoint is waited for. */
  #lookForAwaited(desired: Desired): void {
    for (const key of this.#waiters.keys()) {
      const name = desired.endpoints.get(key)?.interfaceName;
      const link = name === undefined ? undefined : getLink(this.#socket, name);
      if (link) this.#interfaces.update(link, false, this.#options.clock.monotonicMs());
    }
  }

  /** Interfaces that are up by now and were not; a few of them cost less than a look at all. */
  #lookAtRaised(): void {
    const down = [...this.#wanted!.links.keys()].filter((index) => !this.#interfaces.at(index)?.up);
    if (down.length > fewLinks) return this.#lookAtLinks();
    for (const index of down) {
      const name = this.#interfaces.at(index)?.name;
      const link = name === undefined ? undefined : getLink(this.#socket, name);
      if (link) this.#interfaces.update(link, false, this.#options.clock.monotonicMs());
    }
  }

  #lookAtLinks(): void {
    this.#interfaces.replace(listLinks(this.#socket).values(), this.#options.clock.monotonicMs());
    this.#interfaces.replaceAddresses(listAddresses(this.#socket));
  }

  /** By this node's own address the interface to the other nodes is found; nobody else should have those of its tunnels. */
  #isOwnAddress(ip: Ip): boolean {
    const { ownAddresses = {}, tunnels = {} } = this.#desired ?? {};
    return [ownAddresses[ip.v], ...Object.values(tunnels).map((t) => t.ip)].some((own) => own && sameIp(own, ip));
  }

  /** Why an endpoint is not in force yet; undefined = it is. @throws Problem when the kernel refused a part of it. */
  #missing(key: string, is: (endpoint: LocalEndpoint) => boolean, sinceMs: number): string | undefined {
    const endpoint = this.#flushed?.endpoints.get(key);
    if (!endpoint || !is(endpoint)) return "the endpoint is not known to the agent";
    const entries = this.#wanted?.ofEndpoint.get(key);
    if (entries) return this.#ports.missing(entries) ?? this.#carrierMissing(endpoint.interfaceName, sinceMs);
    return this.#interfaces.named(endpoint.interfaceName)
      ? `interface ${endpoint.interfaceName} belongs to another endpoint`
      : `interface ${endpoint.interfaceName} does not exist`;
  }

  #carrierMissing(name: string, sinceMs: number): string | undefined {
    const now = this.#options.clock.monotonicMs();
    if (now - sinceMs > carrierMs.most) return undefined; // whoever only looks at many endpoints asks the kernel nothing
    const link = getLink(this.#socket, name);
    const peer = link && getPeer(this.#socket, link);
    if (!peer || peer.operUp) return undefined;
    this.#schedule.retryAt = Math.min(this.#schedule.retryAt, now + carrierMs.every);
    return "the pod's side has no carrier yet";
  }

  #ownership(): Ownership {
    return {
      interfaces: this.#interfaces,
      settings: this.#desired!.settings,
      known: this.#known,
      nowMs: this.#options.clock.monotonicMs(),
    };
  }

  #lookAgainIfDue(): void {
    const { routes, interfaces } = this.#schedule.due(this.#desired?.settings);
    if (routes) this.#ports.doubtRoutes();
    if (!interfaces) return;
    this.#lookAtLinks();
    this.#ports.doubtInterfaces();
  }

  /** Routes on the interface of an unknown endpoint become ours when its grace period ends: look at them then. */
  #nextGraceEnd(now: number): number {
    let next = Infinity;
    for (const { index, name, firstSeenMs } of this.#interfaces.all()) {
      if (this.#known.has(index) || !isPodInterface(name, this.#desired!.settings)) continue;
      const end = firstSeenMs + graceMs;
      if (end > now) next = Math.min(next, end);
    }
    return next;
  }

  #report(): void {
    const { log, health } = this.#options;
    const failures = this.#ports.status().flatMap(({ name, failed }) => failed.map((f) => ({ port: name, ...f })));
    for (const { port, key, why, times } of failures) {
      // An interface may go between two steps of ours; what is wrong fails again in a moment.
      log[times > 1 ? "warn" : "debug"]("kernel is not as wanted", { port, key, why });
    }
    const inSync = this.#desired !== undefined && this.#ports.inSync();
    if (inSync && !this.#syncedOnce) {
      this.#syncedOnce = true;
      log.info("kernel is as wanted", { endpoints: this.#desired!.endpoints.size });
    }
    const why = this.#desired ? "kernel is not as wanted yet" : "nothing is known from the datastore yet";
    health.report("dataplane", this.#syncedOnce, why);
  }
}

/** The MTU that pods got before this process began. */
function mtuIn(file: string | undefined): number[] {
  try {
    const mtu = file === undefined ? 0 : Number(Deno.readTextFileSync(file).trim());
    return Number.isInteger(mtu) && mtu > 0 ? [mtu] : [];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

const replacer = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
