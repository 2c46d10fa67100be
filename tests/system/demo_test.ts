import assert from "node:assert/strict";
import { run } from "../../lib/process.ts";

Deno.test("the demo passes all its checks within a minute and leaves nothing behind", async () => {
  const start = performance.now();
  const { code, stdout, stderr } = await run(Deno.execPath(), ["task", "--quiet", "demo"], {
    cwd: new URL("../..", import.meta.url).pathname,
    timeoutMs: 120_000,
  });
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /\n(\d+) of \1 checks passed\n$/);
  const seconds = (performance.now() - start) / 1000;
  assert.ok(seconds < 60, `it took ${seconds.toFixed(1)} s`);
});
