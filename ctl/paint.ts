import type { Surroundings } from "./surroundings.ts";

/** Colours of a text. Where none are wanted each leaves the text as it is. */
export type Paint = Record<keyof typeof codes, (text: string) => string>;

/** Select Graphic Rendition (ECMA-48 §8.3.117): on and off. */
const codes = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;

/**
 * Colours for standard output: on a terminal that can show them, unless NO_COLOR is set (no-color.org: to anything but
 * empty). In a pipe or file the text is plain.
 */
export function paintOf({ screen, env }: Pick<Surroundings, "screen" | "env">): Paint {
  const isColoured = screen && !env("NO_COLOR") && env("TERM") !== "dumb";
  const brush = ([on, off]: readonly [number, number]) => (text: string): string =>
    isColoured && text !== "" ? `\x1b[${on}m${text}\x1b[${off}m` : text;
  return Object.fromEntries(Object.entries(codes).map(([name, code]) => [name, brush(code)])) as Paint;
}

/** No colours. */
export const plain: Paint = paintOf({ screen: false, env: () => undefined });
