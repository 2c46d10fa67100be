import { libc } from "./_ffi.ts";

const MADV_DONTNEED = 4;

/**
 * Collects all garbage of this process and gives what is free to the kernel: V8 keeps the pages of a burst until it sees fit,
 * the C library for ever, and of the program's file stay mapped what only the start needed. Holds up everything for some
 * 4 ms a MB of living data, so it is for moments after a burst. Without V8's `--expose-gc`, with which the binary is built,
 * no garbage is collected.
 */
export function giveBackMemory(): void {
  const { gc } = globalThis as { gc?: (options: { type: "major"; flavor: "last-resort" }) => void };
  gc?.({ type: "major", flavor: "last-resort" });
  libc().malloc_trim(0n);
  const maps = Deno.readTextFileSync("/proc/self/smaps");
  for (const { start, length } of untouchedMappings(maps, Deno.readLinkSync("/proc/self/exe"))) {
    libc().madvise(start, length, MADV_DONTNEED);
  }
}

/**
 * Mappings of a file that this process cannot write and has no page of its own in (relocations make some): what they show
 * is the file's, and is there again at the next access, out of the page cache. @param smaps text of /proc/self/smaps.
 */
export function untouchedMappings(smaps: string, path: string): { start: bigint; length: bigint }[] {
  return smaps.split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/).flatMap((mapping) => {
    const [, from, to, rights, file] = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)/.exec(mapping) ?? [];
    if (file !== path || rights!.includes("w") || !/^Anonymous: +0 kB$/m.test(mapping)) return [];
    const start = BigInt(`0x${from}`);
    return [{ start, length: BigInt(`0x${to}`) - start }];
  });
}
