import { Clock, systemClock } from "./clock.ts";

/** State of one part, as `/healthz` and `/readyz` print it. */
export interface PartHealth {
  name: string;
  live: boolean;
  ready: boolean;
  why?: string;
}

/**
 * Every loop says here that it lives, and whether it is ready; the process is live and ready when all parts are.
 * A part with `timeoutMs` is dead when it was silent for longer.
 */
export class Health {
  #parts = new Map<string, { timeoutMs: number; seen: number; ready: boolean; why?: string }>();
  /** By part, instead of what it registered. */
  #timeouts: ReadonlyMap<string, number> = new Map();
  constructor(private readonly clock: Clock = systemClock) {}

  /** Parts that count as dead after another time of silence; 0 = never. */
  setTimeouts(timeouts: ReadonlyMap<string, number>): void {
    this.#timeouts = timeouts;
  }

  /** Adds a part, not ready until it says so. `timeoutMs` 0 = never considered dead. */
  register(name: string, timeoutMs = 0): void {
    this.#parts.set(name, { timeoutMs, seen: this.clock.monotonicMs(), ready: false, why: "starting" });
  }

  /** Forgets all parts, before others are registered. */
  clear(): void {
    this.#parts.clear();
  }

  /** The part lives; `ready` with the reason when it is not. */
  report(name: string, ready: boolean, why?: string): void {
    const part = this.#parts.get(name) ?? { timeoutMs: 0, seen: 0, ready: false };
    this.#parts.set(name, { ...part, seen: this.clock.monotonicMs(), ready, why: ready ? undefined : why });
  }

  /** All parts, in the order of their registration. */
  parts(): PartHealth[] {
    return [...this.#parts].map(([name, p]) => {
      const silentMs = this.clock.monotonicMs() - p.seen;
      const timeoutMs = p.timeoutMs === 0 ? 0 : this.#timeouts.get(name) ?? p.timeoutMs;
      const live = timeoutMs === 0 || silentMs <= timeoutMs;
      return { name, live, ready: live && p.ready, why: live ? p.why : `silent for ${Math.round(silentMs)} ms` };
    });
  }

  /** True when every part lives. */
  live(): boolean {
    return this.parts().every((p) => p.live);
  }

  /** True when every part is ready. */
  ready(): boolean {
    return this.parts().every((p) => p.ready);
  }
}
