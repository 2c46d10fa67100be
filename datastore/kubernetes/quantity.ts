/**
 * The value of a Kubernetes quantity (`500`, `10M`, `1.5Gi`, `2e3`, `100m`) as Go's `Quantity.Value()` gives it: rounded
 * up to a whole number, away from zero.
 * @returns undefined when it is not a quantity. Source: k8s.io/apimachinery pkg/api/resource.
 */
export function parseQuantity(text: string): bigint | undefined {
  const parts = /^([+-]?)(\d*)(?:\.(\d*))?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?|[eE][+-]?\d{1,3})$/.exec(text);
  if (!parts) return undefined;
  const [, sign, whole = "", fraction = "", suffix = ""] = parts;
  if (whole === "" && fraction === "") return undefined;
  const digits = BigInt(whole + fraction);
  const { factor, decimals } = scaleOf(suffix);
  const divisor = 10n ** BigInt(fraction.length + decimals);
  const scaled = digits * factor;
  const value = (scaled + divisor - 1n) / divisor;
  return sign === "-" ? -value : value;
}

const binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const decimal = ["k", "M", "G", "T", "P", "E"];
const small: Record<string, number> = { n: 9, u: 6, m: 3 };

/** The value is digits × factor ÷ 10^decimals. */
function scaleOf(suffix: string): { factor: bigint; decimals: number } {
  if (binary.includes(suffix)) return { factor: 1024n ** BigInt(binary.indexOf(suffix) + 1), decimals: 0 };
  if (decimal.includes(suffix)) return { factor: 1000n ** BigInt(decimal.indexOf(suffix) + 1), decimals: 0 };
  if (suffix in small) return { factor: 1n, decimals: small[suffix]! };
  const exponent = suffix === "" ? 0 : Number(suffix.slice(1));
  return exponent >= 0 ? { factor: 10n ** BigInt(exponent), decimals: 0 } : { factor: 1n, decimals: -exponent };
}
