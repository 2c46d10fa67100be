import { bits, cidrOf, type Ip, sameIp } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import { type Attachment, handleOf } from "./attachment.ts";
import { differences } from "./differences.ts";
import type { Known } from "./_endpoints.ts";
import type { OpenJournal } from "./journal.ts";
import { blockHolding, handleHolding } from "./leftovers.ts";
import { release, type ReleaseParts } from "./_release.ts";
import type { Added, AddRequest } from "./request.ts";
import { addressesOf } from "./stored.ts";
import type { Wiring } from "./wiring.ts";

/** What is needed to look at what was there before an ADD. */
export interface PreviousParts extends ReleaseParts {
  journal: OpenJournal;
  wiring: Pick<Wiring, "disconnect" | "inspect">;
}

/** How long etcd may be silent. */
const patienceMs = 1_000;

/** What stands under the names of an ADD before it begins: the same attachment, an older sandbox, something broken. */
export class Previous {
  readonly #here: Known | undefined;
  /** The endpoint under our key, when it is this container's. */
  readonly #own: WorkloadEndpoint | undefined;

  constructor(
    private readonly parts: PreviousParts,
    private readonly request: AddRequest,
    private readonly key: string,
  ) {
    this.#here = parts.endpoints.at(key);
    const isOwn = this.#here?.endpoint?.spec.containerID === request.attachment.containerId;
    this.#own = isOwn ? this.#here!.endpoint : undefined;
  }

  /**
   * A container can have one interface of ours, in one network: both would have one host side and default route.
   * DIFFERS: Calico says yes for orchestrator cni and makes no interface.
   * @throws Problem "exists".
   */
  refuseSecond(): void {
    const { parts, request: { attachment } } = this;
    const isSibling = (s: Known) => s.endpoint?.spec.containerID === attachment.containerId;
    const other = isAnothers(parts.mirror, this.#here, attachment)
      ? this.#here
      : parts.endpoints.siblings(this.key).find(isSibling);
    if (!other) return;
    throw new Problem({
      code: "exists",
      what: `the container has the interface ${other.endpoint!.spec.endpoint} of another network or name already`,
      where: other.key,
      todo: "A container can have one interface of ours",
    });
  }

  /**
   * The answer to a repeated ADD of an attachment that lives; undefined when it does not.
   * DIFFERS: Calico gives a pod a second address, and says yes to other containers without a look.
   */
  async answer(): Promise<Added | undefined> {
    const { parts, request: { attachment, netns, addresses } } = this;
    const endpoint = this.#own;
    if (!endpoint || parts.journal.get(attachment)) return undefined;
    const hostInterface = endpoint.spec.interfaceName ?? "";
    const { interfaceName } = attachment;
    const actual = await parts.wiring.inspect({ netns, interfaceName, hostInterface });
    const found = differences({ endpoint, actual, netns, interfaceName, hostInterface, answered: undefined });
    if (found.length > 0) return undefined;
    const byName = addresses.from === "given" || (addresses.specific?.length ?? 0) > 0;
    const blockOf = (ip: Ip) => (byName ? undefined : blockHolding(parts.mirror, ip)?.cidr) ?? cidrOf(ip, bits(ip.v));
    return { endpoint, addresses: addressesOf(endpoint).map((ip) => ({ ip, block: blockOf(ip) })), again: true };
  }

  /** A broken attachment of the same container, or one whose DEL waits in the journal, goes before it is made anew. */
  async clear(): Promise<void> {
    const { parts, request: { attachment, addresses } } = this;
    const waiting = parts.journal.get(attachment);
    if (waiting || this.#own) {
      await this.#removeLink(this.#own?.spec.mac ?? waiting?.link?.mac);
      const askAnyway = waiting !== undefined;
      await release(parts, { attachment, endpointKey: this.key, patienceMs, askAnyway });
      await parts.journal.drop(attachment);
    }
    const specific = addresses.from === "ipam" ? addresses.specific : undefined;
    if (this.#here && !this.#own && specific?.length) await this.#takeOver(specific);
  }

  /** Only what is ours goes: the pod's interface by its MAC, the host's by the endpoint's word. */
  async #removeLink(mac: string | undefined): Promise<void> {
    const { parts: { wiring }, request: { attachment: { interfaceName }, netns } } = this;
    const hostInterface = this.#own?.spec.interfaceName;
    const { pod } = await wiring.inspect({ netns, interfaceName, hostInterface: hostInterface ?? interfaceName });
    const isOurs = pod !== undefined && pod.mac === mac;
    await wiring.disconnect({ interfaceName, ...(isOurs ? { netns } : {}), hostInterface });
  }

  /**
   * A re-created pod with fixed addresses gets them from its own older sandbox, whose DEL may come later.
   * DIFFERS: Calico releases them whoever holds them.
   */
  async #takeOver(wanted: Ip[]): Promise<void> {
    const { parts, request: { attachment: { network } } } = this;
    const older = this.#here!.endpoint;
    const containerId = older?.spec.containerID;
    if (!older || !containerId) return;
    const handle = handleOf({ network, containerId });
    const had = addressesOf(older).filter((ip) => wanted.some((w) => sameIp(w, ip)));
    if (had.length === 0) return;
    const order = { addresses: had.map((ip) => ({ ip, handle })) };
    const [outcome] = await parts.patience.within(patienceMs, () => parts.allocator.release([order]), "ADD");
    if (outcome!.commit) parts.mirror.learn(outcome!.commit.events);
  }
}

/** True for an endpoint of this container whose addresses another network's handle holds. */
export function isAnothers(mirror: Pick<Mirror, "get">, known: Known | undefined, attachment: Attachment): boolean {
  const { containerId } = attachment;
  if (known?.endpoint?.spec.containerID !== containerId) return false;
  const holders = addressesOf(known.endpoint).flatMap((ip) => handleHolding(mirror, ip) ?? []);
  return holders.some((h) => h !== handleOf(attachment) && h.endsWith(`.${containerId}`));
}
