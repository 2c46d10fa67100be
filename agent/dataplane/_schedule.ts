import type { Clock } from "../../lib/clock.ts";
import type { NetworkSettings } from "../desired.ts";

/** When the dataplane has to look at what, if nothing else wakes it. Times are monotonic, in milliseconds. */
export class Schedule {
  #routesAt = Infinity;
  #interfacesAt = Infinity;
  /** Something failed, or is not there yet: try again then. */
  retryAt = Infinity;
  /** Routes on the interface of an unknown endpoint become ours then. */
  graceEndAt = Infinity;

  constructor(private readonly clock: Clock, private readonly random: () => number) {}

  /** Begins the periods of looking at everything, up to a tenth longer than asked; a period of 0 = never. */
  restart({ routeRefreshMs, interfaceRefreshMs }: NetworkSettings): void {
    const now = this.clock.monotonicMs();
    const later = (periodMs: number) => (periodMs === 0 ? Infinity : now + periodMs * (1 + this.random() / 10));
    this.#routesAt = later(routeRefreshMs);
    this.#interfacesAt = later(interfaceRefreshMs);
  }

  /** What is to be looked at now. @param settings for the next periods, which begin when one is over. */
  due(settings: NetworkSettings | undefined): { routes: boolean; interfaces: boolean } {
    const now = this.clock.monotonicMs();
    const routes = now >= this.#routesAt, interfaces = now >= this.#interfacesAt;
    if (settings && (routes || interfaces)) this.restart(settings);
    return { routes: routes || now >= this.graceEndAt, interfaces };
  }

  /** In how many milliseconds something is due, at most `mostMs`. */
  waitMs(mostMs: number): number {
    const next = Math.min(this.#routesAt, this.#interfacesAt, this.retryAt, this.graceEndAt);
    return Math.min(mostMs, Math.max(0, next - this.clock.monotonicMs()));
  }
}
