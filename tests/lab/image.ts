import { runOk } from "../../lib/process.ts";

/** Name of the lab's image: one static busybox. */
export const labImage = "docker.io/lab/busybox:1";

/**
 * Makes the lab's image as a tar that `ctr images import` takes: a config, one layer, a manifest.
 * @returns path of the file, `<dir>/image.tar`.
 */
export async function makeImage(dir: string): Promise<string> {
  const work = `${dir}/image`;
  await Deno.mkdir(`${work}/root/bin`, { recursive: true });
  await Deno.mkdir(`${work}/root/www`);
  await Deno.mkdir(`${work}/root/tmp`);
  await Deno.copyFile("/bin/busybox", `${work}/root/bin/busybox`);
  await Deno.chmod(`${work}/root/bin/busybox`, 0o755);
  for (const name of ["sh", "sleep", "httpd", "wget", "ping", "nc", "ip", "cat", "hostname", "echo", "traceroute"]) {
    await Deno.symlink("busybox", `${work}/root/bin/${name}`);
  }
  await runOk("tar", ["-C", `${work}/root`, "-cf", `${work}/layer.tar`, "."]);
  const layer = await Deno.readFile(`${work}/layer.tar`);
  await writeJson(`${work}/config.json`, {
    architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
    os: "linux",
    config: { Entrypoint: ["/bin/busybox"], Cmd: ["sleep", "1000000"], Env: ["PATH=/bin"] },
    rootfs: { type: "layers", diff_ids: [`sha256:${await sha256(layer)}`] },
  });
  await writeJson(`${work}/manifest.json`, [{ Config: "config.json", RepoTags: [labImage], Layers: ["layer.tar"] }]);
  await runOk("tar", ["-C", work, "-cf", `${dir}/image.tar`, "config.json", "manifest.json", "layer.tar"]);
  await Deno.remove(work, { recursive: true });
  return `${dir}/image.tar`;
}

const writeJson = (file: string, value: unknown) => Deno.writeTextFile(file, JSON.stringify(value));

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
