/** Nanoseconds of Go's units. */
const units: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  "µs": 1_000n,
  "μs": 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
};

/**
 * Nanoseconds of a Go duration such as `1h15m30.5s`, `-1.5h` or `0`; undefined when it is none, or too long for 63 bits.
 * Source: Go's time.ParseDuration.
 */
export function parseDuration(text: string): bigint | undefined {
  const [, sign, rest] = /^([+-]?)(.*)$/s.exec(text)!;
  if (rest === "0") return 0n;
  if (!/^((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$/.test(rest!)) return undefined;
  let total = 0n;
  for (const [, amount, unit] of rest!.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    const [whole = "", fraction = ""] = amount!.split(".");
    total += BigInt(whole || "0") * units[unit!]!;
    total += BigInt(fraction || "0") * units[unit!]! / 10n ** BigInt(fraction.length);
  }
  if (total >= 1n << 63n) return undefined;
  return sign === "-" ? -total : total;
}

/** parseDuration() in milliseconds, as a number with a fraction. */
export function durationMs(text: string): number | undefined {
  const ns = parseDuration(text);
  return ns === undefined ? undefined : Number(ns) / 1e6;
}

/** A duration as Go prints it: `1m30s`, `5m0s`, `1.5s`, `50ms`, `0s`. */
export function canonicalDuration(ns: bigint): string {
  if (ns < 0n) return `-${canonicalDuration(-ns)}`;
  if (ns === 0n) return "0s";
  if (ns < 1_000n) return `${ns}ns`;
  if (ns < 1_000_000n) return `${decimal(ns, 3)}µs`;
  if (ns < 1_000_000_000n) return `${decimal(ns, 6)}ms`;
  const seconds = decimal(ns % units.m!, 9);
  const minutes = ns / units.m!;
  if (minutes === 0n) return `${seconds}s`;
  const hours = minutes / 60n;
  return hours === 0n ? `${minutes}m${seconds}s` : `${hours}h${minutes % 60n}m${seconds}s`;
}

/** `n` / 10^digits without trailing zeros. */
function decimal(n: bigint, digits: number): string {
  const scale = 10n ** BigInt(digits);
  const fraction = (n % scale).toString().padStart(digits, "0").replace(/0+$/, "");
  return fraction === "" ? `${n / scale}` : `${n / scale}.${fraction}`;
}
