import { isObject } from "../../lib/json64.ts";
import type { TokenBucket } from "../../kernel/rtnetlink/traffic_control.ts";
import type { BandwidthLimits } from "../desired.ts";

const most32 = 0xffffffff;
/** Packets may wait so long on average. */
const latencyS = 0.025;
/** Ticks of the kernel's packet scheduler in a microsecond. */
const ticksPerUs = 15.625;

/**
 * The token buckets of an endpoint's `spec.qosControls`, in bits; undefined without any. What is no positive number does
 * not limit; calc/inputs.ts tells it.
 */
export function bandwidthOf(controls: unknown): BandwidthLimits | undefined {
  if (!isObject(controls)) return undefined;
  const number = (field: string): number => {
    const value = controls[field], read = typeof value === "bigint" ? Number(value) : value;
    return typeof read === "number" && read > 0 ? read : 0;
  };
  const of = (direction: "ingress" | "egress"): BandwidthLimits => {
    const rate = number(`${direction}Bandwidth`);
    // Less than a byte a second is no rate.
    if (rate < 8) return {};
    const burst = number(`${direction}Burst`) || 4 * 2 ** 30;
    return {
      [direction]: tokenBucket(rate, burst, number(`${direction}Peakrate`), number(`${direction}Minburst`)),
    };
  };
  const limits = { ...of("ingress"), ...of("egress") };
  return limits.ingress ?? limits.egress ? limits : undefined;
}

/**
 * A bucket of so many bits a second that lets bursts of so many bits pass at once. It is filled in the time that the burst
 * takes; what may wait is that time's ticks and what comes in 25 ms, as Calico has it (a larger number than a shell's
 * `tc … latency` would give), because both write the same values then.
 * Source: Calico felix/dataplane/linux/qos/qos.go GetTBFValues.
 */
export function tokenBucket(rateBits: number, burstBits: number, peakBits: number, minburstBytes: number): TokenBucket {
  const rate = Math.floor(rateBits / 8), peakRate = Math.floor(peakBits / 8);
  const ticks = (bytes: number, perS: number) =>
    Math.floor(Math.min(Math.floor(Math.min(bytes * 1e6 / perS, most32)) * ticksPerUs, most32));
  const waiting = (perS: number, buffer: number) => Math.floor(Math.min(perS * latencyS + buffer, most32));
  const bufferTicks = ticks(Math.floor(burstBits / 8), rate);
  const ofRate = waiting(rate, bufferTicks);
  const limitBytes = peakRate > 0 ? Math.min(ofRate, waiting(peakRate, ticks(minburstBytes, peakRate))) : ofRate;
  return { rate, bufferTicks, limitBytes, peakRate, minburstBytes: peakRate > 0 ? minburstBytes : 0 };
}

/** Bytes of an Ethernet header. */
const headerBytes = 14;

/** The same with a smaller burst that lets a packet of the interface's MTU pass; without, none would. */
export const passing = (bucket: TokenBucket | undefined, mtuBytes: number): TokenBucket | undefined =>
  bucket && bucket.peakRate > 0 && bucket.minburstBytes < mtuBytes + headerBytes
    ? { ...bucket, minburstBytes: mtuBytes + headerBytes }
    : bucket;
