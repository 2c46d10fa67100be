import assert from "node:assert/strict";
import { runOk } from "../../lib/process.ts";
import { emulate, emulationMissing } from "../lab/qemu/machine.ts";

const root = new URL("../..", import.meta.url).pathname;
const missing = await emulationMissing();

/** Modules one by one are slow to load in there; a bundle is one file. */
async function bundle(entry: string, name: string): Promise<string> {
  const output = `${root}build/emulated/${name}.js`;
  await runOk(Deno.execPath(), ["bundle", "--quiet", "--platform", "deno", "-o", output, entry], {
    timeoutMs: 120_000,
  });
  return output;
}

Deno.test({
  name: `WireGuard encrypts pods' packets in a kernel that has it; a key changes without loss${
    missing ? ` (${missing})` : ""
  }`,
  ignore: missing !== undefined,
  fn: async () => {
    const agent = await bundle(`${root}tests/lab/qemu/host.ts`, "host");
    const inside = await bundle(`${root}tests/system/_emulated_wireguard.ts`, "wireguard");
    const script = `export NO_COLOR=1; modprobe wireguard && deno run -A --no-check --no-lock ${inside} ${agent}`;
    const { code, output } = await emulate(`PATH=${Deno.execPath().replace(/\/[^/]*$/, "")}:$PATH; ${script}`, 240_000);
    assert.equal(code, 0, output.slice(-6000));
    assert.equal(output.match(/^ok /gm)?.length, 7, output.slice(-6000));
  },
});
