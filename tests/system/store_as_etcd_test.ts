/**
 * Tests of the datastore with `tortie store` in place of etcd. More of them, by hand:
 * `TORTIE_LAB_DATASTORE=store deno test -A tests/system/{watch_faults,startup,ctl,ipam_contention,tunnel_addresses}_test.ts`.
 */
import assert from "node:assert/strict";
import { run } from "../../lib/process.ts";

for (const file of ["mirror_test.ts"]) {
  Deno.test(`${file} passes with tortie store in place of etcd`, async () => {
    const path = new URL(file, import.meta.url).pathname;
    const { code, stdout, stderr } = await run(Deno.execPath(), ["test", "-A", "--quiet", "--no-check", path], {
      env: { TORTIE_LAB_DATASTORE: "store", NO_COLOR: "1" },
      timeoutMs: 180_000,
    });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /ok \| [1-9]\d* passed/);
  });
}
