import { formatCidr } from "../lib/ip.ts";
import type { Usage } from "../ipam/usage.ts";

/** A row of the table: what it is, its network, and the counts with their share. */
export function usageRow(kind: string, { cidr, total, inUse, reserved, free }: Usage): string[] {
  // Calico counts in 63 bits.
  const capped = total > maxCount ? maxCount : total;
  const cap = (n: bigint) => (n > maxCount ? maxCount : n);
  const share = (n: bigint) => `${general(Number(cap(n)))} (${halfToEven(100 * Number(cap(n)) / Number(capped))}%)`;
  return [kind, formatCidr(cidr), general(Number(capped)), share(inUse), share(reserved), share(free)];
}

const maxCount = (1n << 63n) - 1n;

/** A number with five digits, as C's %.5g. */
function general(value: number): string {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(4).split("e") as [string, string];
  const power = Number(exponent);
  if (power >= -4 && power < 5) return String(Number(value.toPrecision(5)));
  return `${Number(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

function halfToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
