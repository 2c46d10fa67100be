/**
 * `deno task build`: bundles main.ts and compiles it into the one binary, build/tortie; prints its size, its bare start
 * and the time of a CNI call. `deno task build ENTRY OUTPUT` builds another entry.
 *
 * Bundled first, because an embedded npm tree costs 90 ms at every start; `--no-code-cache`, because Deno would read
 * cached bytecode from a guessable file in /tmp as root; `--max-semi-space-size=4` (MiB), because an agent with
 * 50,000 endpoints then needs a tenth less memory than with V8's own 16, and half the CPU of what it needs with 1;
 * `--expose-gc`, so that the garbage of the first sync can be collected when it is over (kernel/memory.ts).
 */
import { run, runOk } from "../lib/process.ts";
import { findStub, Stub } from "./stub.ts";

const root = new URL("..", import.meta.url).pathname;

async function main(args: string[]): Promise<number> {
  const entry = args[0] ?? `${root}main.ts`, output = args[1] ?? `${root}build/tortie`;
  // A folder of its own: a package.json or node_modules in any parent would be embedded whole.
  const work = await Deno.makeTempDir({ prefix: "tortie-build-" });
  try {
    await bundle(entry, `${work}/bundle`);
    const stub = await findStub();
    await compile(stub, work, `${work}/tortie`);
    await Deno.mkdir(output.slice(0, output.lastIndexOf("/")), { recursive: true });
    await move(`${work}/tortie`, output);
    await tell(stub, output);
    return 0;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Bundles with one chunk a dynamic import, and puts beside it what etcd3 reads from disk when it is imported. */
async function bundle(entry: string, into: string): Promise<void> {
  await runOk(Deno.execPath(), [
    ...["bundle", "--quiet", "--platform", "deno", "--minify", "--code-splitting", "--outdir", into, entry],
  ], { timeoutMs: 120_000, cwd: root });
  const first = `${into}/main.js`;
  const bundled = `${into}/${entry.split("/").pop()!.replace(/\.ts$/, ".js")}`;
  // etcd3 1.1.2 reads `${__dirname}/../proto/*.proto`; a bundle has no __dirname.
  const text = `globalThis.__dirname??=import.meta.dirname+"/lib";${await Deno.readTextFile(bundled)}`;
  await Deno.remove(bundled);
  await Deno.writeTextFile(first, text);
  await Deno.mkdir(`${into}/lib`);
  await runOk("cp", ["-r", `${await npmFolder("etcd3")}/proto`, `${into}/proto`]);
}

/** Where Deno keeps the package that deno.json names. */
async function npmFolder(name: string): Promise<string> {
  const imports = JSON.parse(await Deno.readTextFile(`${root}deno.json`)).imports as Record<string, string>;
  const version = imports[name]!.split("@").pop()!;
  const { npmCache } = JSON.parse(await runOk(Deno.execPath(), ["info", "--json"]));
  for await (const registry of Deno.readDir(npmCache)) {
    const folder = `${npmCache}/${registry.name}/${name}/${version}`;
    if (await Deno.stat(folder).then(() => true, () => false)) return folder;
  }
  throw new Error(`${name} ${version} is not in ${npmCache}: run deno install`);
}

async function compile(stub: Stub, work: string, output: string): Promise<void> {
  await runOk(stub.deno, [
    ...["compile", "--quiet", "-A", "--no-check", "--no-config", "--no-lock", "--no-code-cache"],
    ...["--v8-flags=--max-semi-space-size=4,--expose-gc", "--include", "bundle", "--output", output, "bundle/main.js"],
  ], { cwd: work, env: stub.denort ? { DENORT_BIN: stub.denort } : {}, timeoutMs: 180_000 });
}

/** Puts the new binary in place at once: who runs the old one keeps it. */
async function move(from: string, to: string): Promise<void> {
  await Deno.copyFile(from, `${to}.new`);
  await Deno.chmod(`${to}.new`, 0o755);
  await Deno.rename(`${to}.new`, to);
}

async function tell(stub: Stub, binary: string): Promise<void> {
  const mb = (await Deno.stat(binary)).size / 1e6;
  const bare = await medianMs(() => run(binary, ["version"]));
  const cni = await medianMs(() =>
    run(binary, [], { env: { CNI_COMMAND: "VERSION" }, stdin: '{"cniVersion":"1.0.0"}' })
  );
  console.log(`${binary}: ${mb.toFixed(1)} MB, made with ${stub.what}`);
  console.log(`start to end, median of 15: version ${bare.toFixed(1)} ms, CNI VERSION ${cni.toFixed(1)} ms`);
}

async function medianMs(work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 15; i++) {
    const start = performance.now();
    await work();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[7]!;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
