import type { Column, Resource } from "./kind.ts";

/** Column NAME. */
export const nameColumn: Column = { head: "NAME", value: (r) => r.metadata.name };

/** A cell as Calico's templates print a pointer: `<nil>` when there is nothing. */
export const pointer = (value: unknown): string => {
  if (value === undefined || value === null) return "<nil>";
  return typeof value === "number" ? goFloat(value) : String(value);
};

/** A floating-point number as Go prints it: `2.5`, `100`, `1e+06`. */
export function goFloat(value: number): string {
  const [mantissa, exponent] = value.toExponential().split("e") as [string, string];
  const power = Number(exponent);
  if (power >= -4 && power < 6) return plain(value);
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** Items joined by commas, cut at `max` characters of which the last three are dots. */
export function joined(items: readonly unknown[] | undefined, max = Infinity): string {
  const text = (items ?? []).join(",");
  return text.length > max ? `${text.slice(0, max - 3)}...` : text;
}

/** A map as Go prints its pairs: sorted, `k=v`, joined by commas. */
export const pairs = (map: Record<string, string> | undefined): string =>
  joined(Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${k}=${v}`));

/** A column of a member of `spec`. */
export const specColumn = <R extends Resource>(
  head: string,
  value: (spec: R["spec"]) => string,
  only?: Column["only"],
): Column<R> => ({ head, value: (r) => value(r.spec), only });

/** Digits without exponent, however small. */
const plain = (value: number): string => (Math.abs(value) < 1e-6 && value !== 0 ? value.toFixed(10) : String(value));
