import assert from "node:assert/strict";
import { bundle, emulate, emulationMissing } from "./machine.ts";

const root = new URL("../../..", import.meta.url).pathname;

/** What a test runs in the emulated machine. */
export interface EmulatedCase {
  /** A sentence of behaviour. */
  name: string;
  /** Kernel module to load first. */
  module: string;
  /** Program that runs inside, from the repository's root; its argument is the bundle of an emulated host. */
  program: string;
  /** Lines `ok …` that it prints when all is well. */
  parts: number;
}

/** Declares a test that boots the emulated machine; left out, with the reason in its name, where that is not possible. */
export async function emulatedTest({ name, module, program, parts }: EmulatedCase): Promise<void> {
  const missing = await emulationMissing();
  Deno.test({
    name: `${name}${missing ? ` (${missing})` : ""}`,
    ignore: missing !== undefined,
    fn: async () => {
      const agent = await bundle(`${root}tests/lab/qemu/host.ts`, `${module}-host`);
      const inside = await bundle(`${root}${program}`, module);
      const script = `export NO_COLOR=1; modprobe ${module} && deno run -A --no-check --no-lock ${inside} ${agent}`;
      const path = `PATH=${Deno.execPath().replace(/\/[^/]*$/, "")}:$PATH`;
      const { code, output } = await emulate(`${path}; ${script}`, 480_000);
      assert.equal(code, 0, output.slice(-6000));
      assert.equal(output.match(/^ok /gm)?.length, parts, output.slice(-6000));
    },
  });
}
