/** The Debian package under a real systemd, in the emulated machine: boot, restart, kill, removal. */
import assert from "node:assert/strict";
import { runOk } from "../../lib/process.ts";
import { emulate, emulationMissing } from "../lab/qemu/machine.ts";
import { binary } from "../lab/tortie.ts";

const root = new URL("../..", import.meta.url).pathname;
const missing = await emulationMissing();

Deno.test({
  name: `systemd boots a host with our units: rules before the network, BIRD by its path, restarts that leave the rest${
    missing ? ` (${missing})` : ""
  }`,
  ignore: missing !== undefined,
  async fn() {
    const folder = `${root}build/emulated/deb`;
    await Deno.mkdir(folder, { recursive: true });
    await runOk(Deno.execPath(), ["run", "-A", `${root}.ci/deb.ts`, binary, folder], { timeoutMs: 120_000 });
    const [deb] = [...Deno.readDirSync(folder)].filter((f) => f.name.endsWith(".deb"));
    const { code, output } = await emulate(`sh tests/system/_emulated_systemd.sh ${folder}/${deb!.name}`, 480_000);
    assert.equal(code, 0, output.slice(-6000));
    assert.equal(output.match(/^ok /gm)?.length, 10, output.slice(-6000));
  },
});
