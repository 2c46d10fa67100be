import { bits, type Cidr, type Family, type Ip, parseCidr, parseIp, tryParseMac } from "../../lib/ip.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import { inNetns, isOwnNetns, type Netns, openNetns } from "../../kernel/netns.ts";
import { writeSysctl } from "../../kernel/sysctl.ts";
import { addAddress } from "../../kernel/rtnetlink/address.ts";
import { createVeth, deleteLink, getLink, type Link, setLink } from "../../kernel/rtnetlink/link.ts";
import { setNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { addRoute, route, scope } from "../../kernel/rtnetlink/route.ts";
import { E, isErrno, type KernelError, RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { hostMac, hostSideSysctls, podSysctls } from "../network/sysctls.ts";
import { Deletions } from "./_deletions.ts";
import { type Inspection, inspectPair } from "./inspection.ts";

export type { FoundInterface, Inspection } from "./inspection.ts";

/** A route of the pod. The next hop is always our side of the pair (169.254.1.1, fe80::ecee:eeff:feee:eeee). */
export interface PodRoute {
  dst: Cidr;
  mtu?: number;
  metric?: number;
}

/** What connect() makes. Addresses become /32 and /128; the names are checked against the kernel's limit of 15 bytes. */
export interface ConnectRequest {
  /** Path of the sandbox's network namespace, as CNI_NETNS has it. */
  netns: string;
  /** Name in the pod: CNI_IFNAME. */
  interfaceName: string;
  /** Name on the host: `cali…`. */
  hostInterface: string;
  /** MAC of the pod's side, `aa:bb:cc:dd:ee:ff`; the kernel's choice when absent. */
  mac?: string;
  /** MTU of both sides; the kernel's (1500) when absent or 0. */
  mtu?: number;
  /** Transmit and receive queues of both sides; 1 when absent or 0. */
  queues?: number;
  addresses: Ip[];
  /** Default: a default route for each family that has an address. */
  routes?: PodRoute[];
  /** Value of the pod's forwarding sysctls; default false. */
  ipForwarding?: boolean;
  /**
   * A veth named `hostInterface` belongs to an older sandbox of the same pod and is removed first. Without it such a
   * link makes connect() fail with "exists": it is another pod's.
   */
  replaceHostInterface?: boolean;
}

/** What disconnect() removes. */
export interface DisconnectRequest {
  /** Path of the namespace; absent, empty or gone is fine. */
  netns?: string;
  interfaceName: string;
  /**
   * Given only when the caller knows that the host side of this name is this attachment's (a newer sandbox of the same
   * pod has the same name): then it goes even if the namespace cannot be entered.
   */
  hostInterface?: string;
}

/** Next hops of the pod: on no interface of the host (proxy ARP answers), and made of the host side's MAC. */
const gateways: Record<Family, Ip> = { 4: parseIp("169.254.1.1"), 6: parseIp("fe80::ecee:eeff:feee:eeee") };
const defaults: Record<Family, Cidr> = { 4: parseCidr("0.0.0.0/0"), 6: parseCidr("::/0") };

/**
 * Veth pairs of sandboxes: one side in the pod with addresses and routes, one on the host that answers ARP for
 * 169.254.1.1. Holds two netlink sockets of the host's namespace (the thread's own when it is made); dispose it at the end.
 */
export class Wiring implements AsyncDisposable {
  readonly #host = RtSocket.open();
  readonly #deletions = new Deletions();

  /**
   * Makes the pair, addresses, routes and sysctls of a pod. The host side stays DOWN: no packet passes before raise().
   * All or nothing: when a step fails the pair is removed again.
   * @returns the pod side's MAC, and `undo()`, which removes the pair; calling it twice is fine.
   * @throws Problem: "bad-input" (a name, MAC or MTU that cannot be; the namespace is the host's own), "not-found"
   * (the namespace does not exist), "exists" (the pod has an interface of that name; `hostInterface` belongs to another
   * pod), "kernel" (everything the kernel refuses, with its words).
   */
  async connect(request: ConnectRequest): Promise<{ mac: string; undo(): Promise<void> }> {
    checkRequest(request);
    refuseOwnNetns(request.netns);
    using netns = openNetns(request.netns);
    await this.#createPair(request, netns);
    const host = getLink(this.#host, request.hostInterface);
    if (!host) throw new Problem({ code: "kernel", what: "veth vanished", where: request.hostInterface });
    const undo = () => this.#deletions.delete(host.index);
    try {
      const families = familiesOf(request.addresses);
      hostSideSysctls(request.hostInterface, families).forEach(writeSysctl);
      return { mac: configurePod(request, netns, families), undo };
    } catch (error) {
      await undo();
      throw error;
    }
  }

  /** Creates both ends, each in its namespace, down. */
  async #createPair(request: ConnectRequest, netns: Netns): Promise<void> {
    const { hostInterface, interfaceName, mac, mtu, queues } = request;
    const create = createVeth({ name: hostInterface, mac: hostMac }, { name: interfaceName, mac, netnsFd: netns.fd }, {
      mtuBytes: mtu,
      queues,
    });
    const error = this.#host.batch([create])[0]!.error;
    if (!error) return;
    const inTheWay = isErrno(error, E.EXIST) ? getLink(this.#host, hostInterface) : undefined;
    if (inTheWay?.kind === "veth" && request.replaceHostInterface) {
      await this.#deletions.delete(inTheWay.index);
      return await this.#createPair({ ...request, replaceHostInterface: false }, netns);
    }
    if (isErrno(error, E.INVAL)) inNetns(netns, () => {}); // says so when the path is no namespace at all
    throw creationProblem(request, error, inTheWay);
  }

  /** Brings the host side up: packets pass from now on. @throws Problem "not-found", "kernel". */
  // deno-lint-ignore require-await -- errors are rejections, not exceptions of the call
  async raise(hostInterface: string): Promise<void> {
    const link = getLink(this.#host, hostInterface);
    if (!link) throw new Problem({ code: "not-found", what: "host interface does not exist", where: hostInterface });
    if (!link.up) this.#host.one(setLink(link.index, { up: true }), `raising ${hostInterface}`);
  }

  /**
   * Removes the pair. What is missing is fine; calls that come while one is under way share the next kernel request
   * (one deletion costs 26-34 ms, fifty in one request 0.5 ms each).
   * @throws Problem "kernel" when something could not be removed; "bad-input" when the namespace is the host's own.
   */
  async disconnect(request: DisconnectRequest): Promise<void> {
    const doomed = new Set<number>();
    if (request.netns) this.#doomPodSide(request.netns, request.interfaceName, doomed);
    if (request.hostInterface !== undefined) {
      const link = getLink(this.#host, request.hostInterface);
      if (link?.kind === "veth") doomed.add(link.index);
    }
    await Promise.all([...doomed].map((index) => this.#deletions.delete(index)));
  }

  /** Finds the host end of the pod's interface; an interface without one is removed where it is. */
  #doomPodSide(path: string, interfaceName: string, doomed: Set<number>): void {
    try {
      refuseOwnNetns(path);
      using netns = openNetns(path);
      using pod = RtSocket.open(netns);
      const end = getLink(pod, interfaceName);
      if (!end) return;
      const host = end.peerIndex === undefined ? undefined : getLink(this.#host, end.peerIndex);
      if (host?.kind === "veth" && host.peerIndex === end.index) doomed.add(host.index);
      else pod.one(deleteLink(end.index), `deleting ${interfaceName} in ${path}`);
    } catch (error) {
      if (!isProblem(error, "not-found")) throw error;
    }
  }

  /** What the kernel has, for CHECK. @throws Problem "kernel" when it cannot be read; "bad-input" as connect(). */
  // deno-lint-ignore require-await -- errors are rejections, not exceptions of the call
  async inspect(request: { netns: string; interfaceName: string; hostInterface: string }): Promise<Inspection> {
    let netns: Netns | undefined;
    try {
      refuseOwnNetns(request.netns);
      netns = openNetns(request.netns);
    } catch (error) {
      if (!isProblem(error, "not-found")) throw error;
    }
    using _held = netns;
    using pod = netns && RtSocket.open(netns);
    return inspectPair(this.#host, request.hostInterface, pod, request.interfaceName);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#deletions[Symbol.asyncDispose]();
    this.#host[Symbol.dispose]();
  }
}

/** Everything inside the pod, host side already there. @returns the MAC of the pod's side. */
function configurePod(request: ConnectRequest, netns: Netns, families: Family[]): string {
  const { interfaceName, addresses, ipForwarding } = request;
  const pod = inNetns(netns, () => {
    const socket = RtSocket.open();
    try {
      podSysctls(interfaceName, families, ipForwarding ?? false).forEach(writeSysctl);
    } catch (error) {
      socket[Symbol.dispose]();
      throw error;
    }
    return socket;
  });
  using _closed = pod;
  const link = getLink(pod, interfaceName);
  if (!link?.mac) throw new Problem({ code: "kernel", what: "pod interface vanished", where: interfaceName });
  const index = link.index;
  const steps = [
    setLink(index, { up: true }),
    ...addresses.map((ip) => addAddress({ index, ip, len: bits(ip.v) })),
    ...podRoutes(request, families, index).map((r) => addRoute(r)),
    // DIFFERS: Calico leaves the next hop to ARP, which the host answers only when it has a default route itself.
    ...families.map((v) => setNeighbour({ index, ip: gateways[v], mac: hostMac })),
  ];
  const refused = pod.batch(steps).map((answer, step) => ({ step, error: answer.error })).find(({ error }) => error);
  if (!refused) return link.mac;
  const what = refused.step === 0 ? "raising" : refused.step <= addresses.length ? "addressing" : "a route of";
  throw new Problem({
    code: "kernel",
    what: `${what} the pod's interface was refused`,
    where: `${interfaceName} in ${request.netns}`,
    cause: refused.error,
  });
}

/** Routes of the pod. IPv4's next hop is on no network, so it needs a route of its own. */
function podRoutes({ routes, netns }: ConnectRequest, families: Family[], index: number) {
  const wanted = routes ?? families.map((v): PodRoute => ({ dst: defaults[v] }));
  const stray = wanted.find((r) => !families.includes(r.dst.v));
  if (stray) {
    throw new Problem({
      code: "bad-input",
      what: `route for IPv${stray.dst.v}, but the pod has no address of that version`,
      where: netns,
    });
  }
  const toGateway = route({ dst: { ...gateways[4], len: 32 }, index, scope: scope.link });
  return [
    ...(families.includes(4) ? [toGateway] : []),
    ...wanted.map(({ dst, mtu, metric }) =>
      route({ dst, index, via: gateways[dst.v], mtuBytes: mtu, ...(metric === undefined ? {} : { metric }) })
    ),
  ];
}

/** Versions of the addresses, IPv4 first. */
const familiesOf = (addresses: Ip[]): Family[] => ([4, 6] as const).filter((v) => addresses.some((a) => a.v === v));

/** Work in the host's own namespace would hit the host's interfaces. @throws Problem "bad-input", "not-found". */
function refuseOwnNetns(path: string): void {
  if (!isOwnNetns(path)) return;
  throw new Problem({
    code: "bad-input",
    what: "network namespace is the host's own",
    where: path,
    todo: "Give the pod's namespace, such as /run/netns/NAME or /proc/PID/ns/net",
  });
}

/** What is wrong with a request before anything is done. @throws Problem "bad-input". */
function checkRequest({ interfaceName, hostInterface, mac, mtu, queues, addresses }: ConnectRequest): void {
  const bad = (what: string, where: string) => new Problem({ code: "bad-input", what, where });
  for (const name of [interfaceName, hostInterface]) {
    // dev_valid_name() of the kernel, whose limit counts bytes.
    const fits = new TextEncoder().encode(name).length <= 15;
    if (!fits || !/^[^\s/:]+$/.test(name) || name === "." || name === "..") {
      throw bad(`"${name}" cannot be an interface name`, "1 to 15 bytes, no space, '/' or ':'");
    }
  }
  if (mac !== undefined && !isUnicastMac(mac)) {
    throw bad(`"${mac}" cannot be an interface's MAC address`, interfaceName);
  }
  const least = addresses.some((a) => a.v === 6) ? 1280 : 68;
  if (mtu && !(Number.isInteger(mtu) && mtu >= least && mtu <= 65535)) {
    throw bad(`MTU ${mtu} is not between ${least} and 65535`, interfaceName);
  }
  if (queues && !(Number.isInteger(queues) && queues >= 1 && queues <= 4096)) {
    throw bad(`${queues} queues are not between 1 and 4096`, interfaceName);
  }
}

function isUnicastMac(text: string): boolean {
  const mac = tryParseMac(text);
  return mac !== undefined && (mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0);
}

/** Why a pair was not created, in words of the caller's world. @param inTheWay the host's link of the wanted name. */
function creationProblem(request: ConnectRequest, cause: KernelError, inTheWay: Link | undefined): Problem {
  const { hostInterface, interfaceName, netns } = request;
  if (!isErrno(cause, E.EXIST)) {
    return new Problem({ code: "kernel", what: "veth was refused", where: hostInterface, cause });
  }
  if (!inTheWay) {
    return new Problem({ code: "exists", what: `pod already has an interface ${interfaceName}`, where: netns });
  }
  return new Problem({
    code: "exists",
    what: inTheWay.kind === "veth"
      ? "host interface belongs to another pod"
      : `host has another interface of this name, of kind ${inTheWay.kind ?? "hardware"}`,
    where: hostInterface,
  });
}
