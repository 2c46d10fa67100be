import assert from "node:assert/strict";
import { untouchedMappings } from "./memory.ts";

const mapping = (range: string, rights: string, file: string, anonymousKb: number) =>
  `${range} ${rights} 00000000 fd:00 1234                       ${file}\nSize: 8 kB\nRss: 8 kB\nAnonymous:      ${
    String(anonymousKb).padStart(5)
  } kB\nVmFlags: rd mr`;

Deno.test("only mappings of the file without a page of our own, and that nobody can write, are given back", () => {
  const smaps = [
    mapping("00400000-00600000", "r--p", "/bin/tortie", 0),
    mapping("00600000-00a00000", "r-xp", "/bin/tortie", 0),
    mapping("00a00000-00b00000", "r--p", "/bin/tortie", 64),
    mapping("00b00000-00c00000", "rw-p", "/bin/tortie", 0),
    mapping("00c00000-00d00000", "r-xp", "/bin/tortie.old", 0),
    mapping("7f0000000000-7f0000001000", "r-xp", "", 0),
  ].join("\n");
  assert.deepEqual(untouchedMappings(smaps, "/bin/tortie"), [
    { start: 0x400000n, length: 0x200000n },
    { start: 0x600000n, length: 0x400000n },
  ]);
});
