import { run, runOk } from "../../lib/process.ts";
import { uniqueSuffix } from "../lab/port.ts";
import { binary } from "../lab/tortie.ts";
import { bundle, emulate, emulationMissing } from "../lab/qemu/machine.ts";
import type { TunnelMode } from "./tunnels.ts";

/** So long the emulated machine may take, on a busy machine. */
const mostMs = 480_000;

/**
 * Shows a mode whose tunnel not every kernel has: here when this one has it, else in Debian's kernel under QEMU.
 * @returns exit code; 0 too when there is no such kernel, which is said.
 */
export async function tunnelDemo(mode: TunnelMode): Promise<number> {
  const program = await bundle(new URL("tunnels.ts", import.meta.url).pathname, `demo-${mode}`);
  const words = ["run", "-A", "--no-check", "--no-lock", program, mode];
  if (await kernelHas(mode)) {
    const { code } = await new Deno.Command(Deno.execPath(), { args: words, env: { TORTIE_BINARY: binary } }).spawn()
      .status;
    return code;
  }
  const missing = await emulationMissing();
  if (missing !== undefined) {
    console.log(`demo: this kernel has no ${mode}, and it cannot be emulated here: ${missing}. Nothing was shown.`);
    console.log("demo: ./dev installs QEMU and unpacks Debian's kernel; ./dev demo --mode=vxlan needs neither.");
    return 0;
  }
  console.log(`this kernel has no ${mode}: Debian's runs in QEMU, which is slow`);
  const path = Deno.execPath().replace(/\/[^/]*$/, "");
  const script =
    `export NO_COLOR=1 TORTIE_LAB_SLOW=1 TORTIE_BINARY=${binary} PATH=${path}:$PATH; modprobe ${mode}; deno ` +
    words.join(" ");
  const { code } = await emulate(script, mostMs, (line) => isOurs(line) && console.log(line));
  if (code === undefined) console.log("FAILED the emulated machine ended without an answer");
  return code ?? 1;
}

/** The kernel and the emulated machine's own end say things, too. */
const isOurs = (line: string): boolean => !/^\[ *\d+\.\d{6}\]|^EMULATED-EXIT/.test(line);

/** Whether this machine's kernel makes such a device. */
async function kernelHas(mode: TunnelMode): Promise<boolean> {
  const name = `demo-${uniqueSuffix()}`;
  await runOk("ip", ["netns", "add", name]);
  try {
    const made = mode === "ipip"
      ? await run("ip", ["-n", name, "tunnel", "show", "dev", "tunl0"])
      : await run("ip", ["-n", name, "link", "add", "wg0", "type", "wireguard"]);
    return made.code === 0 && (mode === "wireguard" || made.stdout.includes("tunl0"));
  } finally {
    await runOk("ip", ["netns", "delete", name]);
  }
}
