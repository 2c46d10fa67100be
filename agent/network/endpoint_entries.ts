import { neighbourKey, type StaticNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { type Route, routeKey } from "../../kernel/rtnetlink/route.ts";
import type { Sysctl } from "../../kernel/sysctl.ts";
import type { LocalEndpoint, NetworkSettings } from "../desired.ts";
import type { HostInterface } from "./interfaces.ts";
import { endpointNeighbours, endpointRoutes, familiesOf } from "./local_routes.ts";
import { hostSideSysctls } from "./sysctls.ts";

/** What one endpoint needs in the kernel, by the keys of the ports. */
export interface MadeEntries {
  sysctls: readonly [string, Sysctl][];
  routes: readonly Route[];
  neighbours: readonly [string, StaticNeighbour][];
}

/** Key of a switch of an interface. */
export const sysctlKey = (index: number, path: string): string => `${index} ${path}`;

/**
 * The entries of each endpoint, made once while the endpoint, its interface and the settings stay: one pod more does not
 * cost the making of all, and what stays is the same object as before.
 */
export class EndpointMemory {
  #made = new WeakMap<LocalEndpoint, { on: HostInterface; entries: MadeEntries }>();
  #keys = new WeakMap<Route, string>();
  #madeFor = "";

  /** To be called before of(): other settings make everything anew. */
  begin(settings: NetworkSettings, rpFilter: string | undefined): void {
    const text = JSON.stringify([settings, rpFilter], (_, value) => typeof value === "bigint" ? `${value}n` : value);
    if (text === this.#madeFor) return;
    this.#madeFor = text;
    this.#made = new WeakMap();
  }

  /** @param on its interface, as it is now. */
  of(endpoint: LocalEndpoint, on: HostInterface, settings: NetworkSettings, rpFilter: string | undefined): MadeEntries {
    const known = this.#made.get(endpoint);
    const { name, index, up } = on;
    if (known && known.on.name === name && known.on.index === index && known.on.up === up) return known.entries;
    const sources = settings.sourceSpoofing && endpoint.spoofs ? "0" : rpFilter;
    const entries: MadeEntries = {
      sysctls: hostSideSysctls(name, familiesOf(endpoint), sources).map((s) => [sysctlKey(index, s.path), s]),
      routes: up ? endpointRoutes(endpoint, on, settings) : [],
      neighbours: (up ? endpointNeighbours(endpoint, on) : []).map((n) => [neighbourKey(n), n]),
    };
    this.#made.set(endpoint, { on: { ...on }, entries });
    return entries;
  }

  /** routeKey(), remembered. */
  keyOf(route: Route): string {
    const known = this.#keys.get(route);
    if (known !== undefined) return known;
    const key = routeKey(route);
    this.#keys.set(route, key);
    return key;
  }
}
