import { Problem } from "../../lib/problem.ts";
import { handleOf } from "./attachment.ts";

/** Who holds a lease: a container in a network. */
export interface LeaseHolder {
  network: string;
  containerId: string;
}

/**
 * Containers that hold addresses without an endpoint, because another main plugin makes their interface: an empty file
 * each, so that the collector can tell an address in use from a forgotten one. The files outlive this process; a power cut
 * ends the containers too, so they are not synced to disk.
 */
export class Leases {
  readonly #handles = new Set<string>();
  constructor(readonly dir: string) {}

  /** Reads what is on disk; once, at start. @throws Problem "unavailable". */
  async scan(): Promise<void> {
    await this.#try(async () => {
      await Deno.mkdir(this.dir, { recursive: true, mode: 0o700 });
      for await (const file of Deno.readDir(this.dir)) {
        const [network, containerId] = file.name.split(",");
        if (network && containerId) this.#handles.add(handleOf({ network, containerId }));
      }
    });
  }

  /** To be called before the lease is answered. @throws Problem "unavailable" (disk full). */
  async add(holder: LeaseHolder): Promise<void> {
    await this.#try(() => Deno.writeTextFile(this.#file(holder), "", { mode: 0o600 }));
    this.#handles.add(handleOf(holder));
  }

  /** The container has gone; one that held nothing is fine. */
  async remove(holder: LeaseHolder): Promise<void> {
    if (!this.#handles.delete(handleOf(holder))) return;
    await this.#try(() => Deno.remove(this.#file(holder)));
  }

  /** Handles of all leases. */
  handles(): ReadonlySet<string> {
    return this.#handles;
  }

  /** CNI allows no comma in either part. */
  #file({ network, containerId }: LeaseHolder): string {
    return `${this.dir}/${network},${containerId}`;
  }

  async #try(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return;
      throw new Problem({ code: "unavailable", what: "records of leases cannot be kept", where: this.dir, cause });
    }
  }
}
