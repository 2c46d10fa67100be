import type { Clock } from "../../lib/clock.ts";
import type { Health } from "../../lib/health.ts";
import type { Logger } from "../../lib/log.ts";
import type { Desired } from "../desired.ts";

/** True until rules of policies are programmed: all traffic passes. Shown by the log and by `ctl node status`. */
export const trafficIsUnfiltered = true;

/** What a Dataplane works with. */
export interface DataplaneOptions {
  clock: Clock;
  /** 0..1 source for jitter. */
  random: () => number;
  log: Logger;
  /** Parts "dataplane" and "kernel changes" report here. */
  health: Health;
}

/** Whether one sort of thing in the kernel is as wanted. */
export interface PortStatus {
  /** "routes ip4 table 254". */
  name: string;
  wanted: number;
  /** What is not in sync and why; empty = in sync. */
  failed: { key: string; why: string; times: number }[];
}

/** What `ctl node status` shows of the kernel. */
export interface DataplaneStatus {
  /** Something was wanted, and all of it holds. */
  inSync: boolean;
  unfiltered: boolean;
  endpoints: number;
  ports: PortStatus[];
}

/** Keeps the kernel as desired: applies changes, repairs drift within a second, looks at everything periodically. */
export class Dataplane implements AsyncDisposable {
  /** Opens its sockets and follows the kernel's changes. Touches nothing before the first apply(). @throws Problem. */
  static start(_options: DataplaneOptions): Dataplane {
    throw new Error("not built yet");
  }

  /** From now on this must hold. Returns at once; changes that come together are flushed together. */
  apply(_desired: Desired): void {
    throw new Error("not built yet");
  }

  /**
   * Resolves when the kernel has all that the endpoint needs: switches, (later: its chains,) then its host side is
   * raised, then routes and neighbours. So it may be called before the endpoint is known, and when it resolves pods are
   * reachable; nothing else needs to raise the interface.
   * @throws Problem "kernel" with the kernel's words; "not-ready" when `deadlineMs` (default 10,000) passes first, with
   * what is missing.
   */
  enforced(_endpointKey: string, _deadlineMs?: number): Promise<void> {
    throw new Error("not built yet");
  }

  status(): DataplaneStatus {
    throw new Error("not built yet");
  }

  /** Stops following and closes. What is programmed stays. */
  [Symbol.asyncDispose](): Promise<void> {
    throw new Error("not built yet");
  }
}
