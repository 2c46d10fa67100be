import type { Cidr, Ip } from "../../lib/ip.ts";

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

/** One side of a pair, or any other link of that name, as the kernel has it. */
export interface FoundInterface {
  index: number;
  kind: string | undefined;
  mac: string | undefined;
  mtuBytes: number;
  /** IFF_UP. */
  up: boolean;
  /** Addresses with their prefix lengths; link-local ones of IPv6 are left out. */
  addresses: { ip: Ip; len: number }[];
  /** Routes of the main table over this interface. */
  routes: { dst: Cidr; via: Ip | undefined }[];
}

/** What is really there; a missing part is undefined. */
export interface Inspection {
  netnsExists: boolean;
  pod: FoundInterface | undefined;
  host: FoundInterface | undefined;
  /** The two are the ends of one pair. */
  paired: boolean;
}

/**
 * Veth pairs of sandboxes: one side in the pod with addresses and routes, one on the host that answers ARP for
 * 169.254.1.1. Holds two netlink sockets of the host's namespace; dispose it at the end.
 */
export class Wiring implements AsyncDisposable {
  /**
   * Makes the pair, addresses, routes and sysctls of a pod. The host side stays DOWN: no packet passes before raise().
   * All or nothing: when a step fails the pair is removed again.
   * @returns the pod side's MAC, and `undo()`, which removes the pair; calling it twice is fine.
   * @throws Problem: "bad-input" (a name, MAC or MTU that cannot be; the namespace is the host's own), "not-found"
   * (the namespace does not exist), "exists" (the pod has an interface of that name; `hostInterface` belongs to another
   * pod), "kernel" (everything the kernel refuses, with its words).
   */
  connect(_request: ConnectRequest): Promise<{ mac: string; undo(): Promise<void> }> {
    throw new Error("not built yet");
  }

  /** Brings the host side up: packets pass from now on. @throws Problem "not-found", "kernel". */
  raise(_hostInterface: string): Promise<void> {
    throw new Error("not built yet");
  }

  /**
   * Removes the pair. What is missing is fine; calls that come while one is under way share the next kernel request
   * (one deletion costs 26-34 ms, fifty in one request 0.5 ms each).
   * @throws Problem "kernel" when something could not be removed; "bad-input" when the namespace is the host's own.
   */
  disconnect(_request: DisconnectRequest): Promise<void> {
    throw new Error("not built yet");
  }

  /** What the kernel has, for CHECK. @throws Problem "kernel" when it cannot be read. */
  inspect(_request: { netns: string; interfaceName: string; hostInterface: string }): Promise<Inspection> {
    throw new Error("not built yet");
  }

  [Symbol.asyncDispose](): Promise<void> {
    throw new Error("not built yet");
  }
}
