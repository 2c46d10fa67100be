import { run, runOk } from "../../../lib/process.ts";

/** What a program in the emulated machine came to. */
export interface EmulatedRun {
  /** Its exit code; undefined when the machine ended without one. */
  code: number | undefined;
  /** All that the machine's console showed. */
  output: string;
}

const repository = new URL("../../..", import.meta.url).pathname.replace(/\/$/, "");

/** Inserted in this order before the root can be mounted. */
const modules = [
  ...["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "netfs", "fscache"],
  ...["9pnet", "9pnet_virtio", "9p", "overlay"],
];

/** Where `./dev` unpacks Debian's kernel. */
export const kernelFolder = (): string =>
  `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/root"}/.cache`}/tortie/linux`;

/** Why nothing can be emulated here; undefined when it can. */
export async function emulationMissing(): Promise<string | undefined> {
  if ((await run("sh", ["-c", "command -v qemu-system-x86_64"])).code !== 0) return "qemu-system-x86 is not installed";
  const there = await Deno.stat(`${kernelFolder()}/boot`).then(() => true, () => false);
  return there ? undefined : `Debian's kernel is not in ${kernelFolder()}`;
}

/**
 * Boots Debian's own kernel in software emulation over this machine's files, runs a shell script in the repository and
 * waits for its end. It has what this machine's kernel may lack: IPIP, WireGuard. What it writes stays in its memory.
 * @param onLine told each line of the console when it is there.
 */
export async function emulate(
  script: string,
  timeoutMs: number,
  onLine: (line: string) => void = () => {},
): Promise<EmulatedRun> {
  const kernel = kernelFolder();
  const version = [...Deno.readDirSync(`${kernel}/lib/modules`)][0]!.name;
  const work = await Deno.makeTempDir({ prefix: "tortie-emulated-", dir: "/dev/shm" });
  try {
    await makeInitramfs(work, `${kernel}/lib/modules/${version}`, script);
    const words = [
      ...["console=ttyS0", "quiet", "panic=-1", "mitigations=off", `repository=${repository}`],
      `kernel_modules=${kernel}/lib/modules/${version}`,
    ];
    const output = await consoleOf(
      [
        ...["-accel", "tcg,thread=multi,tb-size=512"],
        // A processor without AVX: emulated, what uses it takes twice as long.
        ...["-cpu", "Nehalem", "-m", "4G", "-smp", "2", "-display", "none", "-no-reboot"],
        ...["-serial", "stdio", "-monitor", "none"],
        ...["-kernel", `${kernel}/boot/vmlinuz-${version}`, "-initrd", `${work}/initramfs`, "-append", words.join(" ")],
        ...["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"],
      ],
      timeoutMs,
      onLine,
    );
    const code = /\nEMULATED-EXIT (\d+)/.exec(output)?.[1];
    return { code: code === undefined ? undefined : Number(code), output };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Runs the machine until it ends or its time is over; what it showed until then tells more than an error. */
async function consoleOf(args: string[], timeoutMs: number, onLine: (line: string) => void): Promise<string> {
  const machine = new Deno.Command("setpriv", {
    args: ["--pdeathsig", "KILL", "--", "qemu-system-x86_64", ...args],
    ...{ stdin: "null", stdout: "piped", stderr: "null" },
  }).spawn();
  const end = setTimeout(() => machine.kill("SIGKILL"), timeoutMs);
  let output = "", told = 0;
  for await (const text of machine.stdout.pipeThrough(new TextDecoderStream())) {
    output += text.replaceAll("\r", "");
    for (let at = output.indexOf("\n", told); at >= 0; at = output.indexOf("\n", told)) {
      onLine(output.slice(told, at));
      told = at + 1;
    }
  }
  await machine.status;
  clearTimeout(end);
  return output;
}

/** One file of an entry and all that it imports: modules one by one are slow to load in there. @returns its path. */
export async function bundle(entry: string, name: string): Promise<string> {
  const output = `${repository}/build/emulated/${name}.js`;
  await runOk(Deno.execPath(), ["bundle", "--quiet", "--platform", "deno", "-o", output, entry], {
    timeoutMs: 120_000,
  });
  return output;
}

async function makeInitramfs(work: string, moduleFolder: string, script: string): Promise<void> {
  const root = `${work}/root`;
  await Deno.mkdir(`${root}/bin`, { recursive: true });
  await Deno.mkdir(`${root}/modules`);
  await Deno.copyFile("/bin/busybox", `${root}/bin/busybox`);
  for (const name of modules) {
    const found = (await runOk("find", [moduleFolder, "-name", `${name}.ko*`])).trim();
    if (found !== "") await Deno.copyFile(found, `${root}/modules/${name}.ko`);
  }
  const first = (await Deno.readTextFile(new URL("first.sh", import.meta.url)))
    .replace("MODULES", modules.join(" ")).replace("REPO", repository);
  await Deno.writeTextFile(`${root}/init`, first, { mode: 0o755 });
  await Deno.writeTextFile(`${root}/command`, script);
  await runOk("sh", ["-c", `cd ${root} && find . | cpio -o -H newc --quiet > ${work}/initramfs`]);
}
