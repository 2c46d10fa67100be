import { libc } from "./_ffi.ts";

/**
 * Collects all garbage of this process and gives what is free to the kernel: V8 keeps the pages of a burst until it sees fit,
 * the C library for ever. Holds up everything for some 4 ms a MB of living data, so it is for moments after a burst.
 * Without V8's `--expose-gc`, with which the binary is built, only the C library's part is done.
 */
export function giveBackMemory(): void {
  const { gc } = globalThis as { gc?: (options: { type: "major"; flavor: "last-resort" }) => void };
  gc?.({ type: "major", flavor: "last-resort" });
  libc().malloc_trim(0n);
}
