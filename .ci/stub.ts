import { run, runOk } from "../lib/process.ts";

/** What `deno compile` is done with. */
export interface Stub {
  /** The deno to compile with. */
  deno: string;
  /** File for DENORT_BIN; undefined: deno downloads the stub of its own version. */
  denort: string | undefined;
  /** For people: which of the two it is. */
  what: string;
}

/** npm packages that together make a runtime stub, with their hashes. See .ci/denort. */
const parts = {
  deno: {
    tarball: "@deno/linux-x64-glibc/-/linux-x64-glibc-2.6.8.tgz",
    sha512: "oY6qIbyrEHt+rzk7oHJ8KZgJ3mOQ1econRWcXlm/wOXORVDn7l9rEoY0vlOf4Qvv22tPTD5Jn1bxm6WBZBXmog==",
  },
  program: {
    tarball: "@mcp-stress/linux-x64/-/linux-x64-0.2.1.tgz",
    sha512: "mBnQXZQ6Cm+Yw5P31/7xYeQSw80IXQ5appuAGrAKGkgAYzgCWswQ8hVU4jTPMnGR5XoUujZWvXTRkLTT3wSt/w==",
  },
};

/**
 * Deno's own stub where it can be had (a release needs that one). Else one out of npm packages, made by `.ci/denort` or,
 * without npm, from the registry's tarballs: good for tests, never for a release.
 * TORTIE_STUB=npm in the environment takes the second without asking.
 */
export async function findStub(): Promise<Stub> {
  const own: Stub = { deno: Deno.execPath(), denort: Deno.env.get("DENORT_BIN"), what: `Deno ${Deno.version.deno}` };
  if (own.denort !== undefined || (Deno.env.get("TORTIE_STUB") !== "npm" && await canDownload())) return own;
  const script = new URL("./denort", import.meta.url).pathname;
  if ((await run("sh", ["-c", "command -v npm"])).code !== 0) await prepare();
  const said = await runOk("bash", [script], { timeoutMs: 180_000 });
  const variable = (name: string) => new RegExp(`${name}='([^']*)'`).exec(said)![1]!;
  return {
    deno: variable("DENO_COMPILE"),
    denort: variable("DENORT_BIN"),
    what: "a Deno 2.6 stub from npm packages (for tests, not for a release)",
  };
}

/** Whether the stub of this Deno is in its cache or can be fetched. */
async function canDownload(): Promise<boolean> {
  const name = `denort-${Deno.build.target}.zip`;
  const { denoDir } = JSON.parse(await runOk(Deno.execPath(), ["info", "--json"]));
  const cached = `${denoDir}/dl/release/v${Deno.version.deno}/${name}`;
  if (await Deno.stat(cached).then(() => true, () => false)) return true;
  try {
    const answer = await fetch(`https://dl.deno.land/release/v${Deno.version.deno}/${name}`, {
      method: "HEAD",
      signal: AbortSignal.timeout(4000),
    });
    return answer.ok;
  } catch {
    return false; // no way to that server from here
  }
}

/** Lays down what `.ci/denort` would fetch by npm, so that it finds its work done. */
async function prepare(): Promise<void> {
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  const dir = Deno.env.get("DENORT_CACHE") || `${cache}/denort-2.6`;
  const folder = `${dir}/node_modules/@deno/linux-x64-glibc`;
  if (await Deno.stat(`${dir}/denort`).then(() => true, () => false)) return;
  await Deno.mkdir(folder, { recursive: true });
  await unpack(parts.deno, "package/deno", `${folder}/deno`);
  await unpack(parts.program, "package/bin/mcp-stress", `${dir}/program`);
  // A compiled program = stub, data, and the data's length in the last 8 bytes.
  const program = await Deno.readFile(`${dir}/program`);
  const data = Number(new DataView(program.buffer).getBigUint64(program.length - 8, true));
  await Deno.writeFile(`${dir}/denort`, program.subarray(0, program.length - data), { mode: 0o755 });
  await Deno.remove(`${dir}/program`);
}

/** Fetches a tarball, checks it, and writes one of its files. */
async function unpack(part: { tarball: string; sha512: string }, member: string, to: string): Promise<void> {
  const registry = (Deno.env.get("NPM_CONFIG_REGISTRY") || "https://registry.npmjs.org").replace(/\/$/, "");
  const answer = await fetch(`${registry}/${part.tarball}`, { signal: AbortSignal.timeout(180_000) });
  if (!answer.ok) throw new Error(`${registry}/${part.tarball}: HTTP ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-512", bytes));
  if (hash.toBase64() !== part.sha512) throw new Error(`${part.tarball}: hash differs from the pinned one`);
  await Deno.writeFile(`${to}.tgz`, bytes);
  await runOk("sh", ["-c", 'tar -xzOf "$1" "$2" > "$3"', "unpack", `${to}.tgz`, member, to], { timeoutMs: 60_000 });
  await Deno.chmod(to, 0o755);
  await Deno.remove(`${to}.tgz`);
}
