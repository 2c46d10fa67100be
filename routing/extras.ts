import { durationMs } from "../datastore/duration.ts";
import type { Metadata } from "../datastore/kind.ts";
import type { Findings } from "./resources.ts";

/** What sessions may have beyond Calico. Asked for by annotations, which Calico does not read. */
export interface SessionExtras {
  /** Bidirectional Forwarding Detection (RFC 5883, UDP 4784): a dead peer is noticed within a second. */
  bfd: boolean;
  /** Long-lived graceful restart (RFC 9494): how long a silent peer's routes are kept, in seconds. Both ends need it. */
  longLivedStaleS?: number;
}

/** Timers of BFD. */
export interface BfdTimers {
  intervalMs: number;
  multiplier: number;
}

/** Annotation on a BGPPeer, or on BGPConfiguration `default` for the mesh: `on` or `off`. */
export const bfdAnnotation = "tortie/bfd";
/** Annotation on BGPConfiguration `default`: a duration such as `300ms`, for all sessions of a node. */
export const bfdIntervalAnnotation = "tortie/bfd-interval";
/** Annotation on BGPConfiguration `default`: lost packets until the peer counts as dead, 2-255. */
export const bfdMultiplierAnnotation = "tortie/bfd-multiplier";
/** Annotation where bfdAnnotation may be: a duration such as `1h`, at most 16777215 s. */
export const longLivedAnnotation = "tortie/long-lived-graceful-restart";

/** No extras: exactly Calico's session. */
export const noExtras: SessionExtras = { bfd: false };

/** The extras that an object's annotations ask for. @param object names it in `findings`: `BGPPeer tor`. */
export function extrasOf(
  metadata: Metadata | undefined,
  object: string,
  findings: Findings,
): { extras: SessionExtras; bfdTimers: BfdTimers } {
  const read = <T>(name: string, parse: (text: string) => T | undefined, wanted: string): T | undefined => {
    const text = metadata?.annotations?.[name];
    const value = text === undefined ? undefined : parse(text);
    if (text !== undefined && value === undefined) {
      findings.add(`"${text}" is not ${wanted}, the annotation is ignored`, `${object}, annotation ${name}`);
    }
    return value;
  };
  const bfd = read(bfdAnnotation, (t) => ({ on: true, off: false })[t], "on or off") ?? false;
  const staleMs = read(longLivedAnnotation, between(1_000, 16_777_215_000), "a duration of 1s to 16777215s");
  const intervalMs = read(bfdIntervalAnnotation, between(10, 60_000), "a duration of 10ms to 60s");
  const multiplier = read(bfdMultiplierAnnotation, (t) => whole(t, 2, 255), "a number of 2 to 255");
  return {
    extras: { bfd, ...(staleMs === undefined ? {} : { longLivedStaleS: Math.round(staleMs / 1000) }) },
    bfdTimers: { intervalMs: Math.round(intervalMs ?? 300), multiplier: multiplier ?? 3 },
  };
}

const between = (min: number, max: number) => (text: string): number | undefined => {
  const ms = durationMs(text);
  return ms !== undefined && ms >= min && ms <= max ? ms : undefined;
};

function whole(text: string, min: number, max: number): number | undefined {
  const n = /^\d{1,3}$/.test(text) ? Number(text) : NaN;
  return n >= min && n <= max ? n : undefined;
}
