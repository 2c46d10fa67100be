import { formatIp, type Ip } from "../../lib/ip.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import type { Endpoints } from "./_endpoints.ts";
import type { ConnectRequest, Wiring } from "./wiring.ts";

/** The pair as connect() gives it. */
type Connected = Awaited<ReturnType<Wiring["connect"]>>;

/**
 * The veth pair of one ADD while its transaction is under way: it is made for the addresses of the newest plan, so that
 * kernel and etcd work side by side, and made again when a conflict led to other addresses.
 */
export class Pair {
  #for: string | undefined;
  #made: Promise<Connected> | undefined;

  /** @param turn resolves when the transaction has been sent: netlink calls hold the thread. */
  constructor(
    private readonly wiring: Pick<Wiring, "connect" | "inspect">,
    private readonly endpoints: Endpoints,
    private readonly request: Omit<ConnectRequest, "addresses"> & { endpointKey: string },
    private readonly turn: () => Promise<void>,
  ) {}

  /** Begins to make it; returns at once. */
  begin(addresses: Ip[]): void {
    const wanted = addresses.map(formatIp).join();
    if (this.#for === wanted) return;
    const before = this.#made;
    this.#for = wanted;
    this.#made = this.#make(addresses, before);
    this.#made.catch(() => {});
  }

  /** The finished pair. @throws Problem of Wiring.connect(). */
  async finished(): Promise<Connected> {
    if (!this.#made) throw new Error("the pair was never begun");
    return await this.#made;
  }

  /** Removes it, if it was made. @throws Problem "kernel". */
  async undo(): Promise<void> {
    const made = await this.#made?.catch(() => undefined);
    await made?.undo();
  }

  async #make(addresses: Ip[], before: Promise<Connected> | undefined): Promise<Connected> {
    const older = await before?.catch(() => undefined);
    await older?.undo();
    await this.turn();
    const request = { ...this.request, addresses };
    try {
      return await this.wiring.connect(request);
    } catch (error) {
      if (!isProblem(error, "exists") || request.replaceHostInterface) throw error;
      await this.#refuseWhenOwned(error);
      return await this.wiring.connect({ ...request, replaceHostInterface: true });
    }
  }

  /**
   * A link of the host side's name that no endpoint owns is left over and may go. SHA-1 of `a.b` + `c` and `a` + `b.c` is
   * the same, so it may also be another pod's. DIFFERS: Calico takes the interface away from it.
   */
  async #refuseWhenOwned(error: Problem): Promise<void> {
    const { netns, interfaceName, hostInterface, endpointKey } = this.request;
    const actual = await this.wiring.inspect({ netns, interfaceName, hostInterface });
    if (actual.pod || actual.host?.kind !== "veth") throw error;
    const owner = this.endpoints.withInterface(hostInterface, endpointKey);
    if (!owner) return;
    const { namespace, name } = owner.endpoint!.metadata;
    throw new Problem({
      code: "exists",
      what: `interface ${hostInterface} belongs to ${namespace}/${name}`,
      where: endpointKey,
      todo: "Two pods whose `namespace.name` is the same text cannot run on one node; rename one",
    });
  }
}
