import assert from "node:assert/strict";
import { run } from "../../lib/process.ts";
import { binary } from "../lab/tortie.ts";

/** Runs the binary, or a link to it, with an environment of its own. */
const call = (program: string, args: string[], env: Record<string, string> = {}, stdin?: string) =>
  run(program, args, { env: { PATH: "/usr/bin:/bin", HOME: "/nonexistent", ...env }, clearEnv: true, stdin });

Deno.test("the binary is there; `deno task build` makes it", () => {
  assert.ok(Deno.statSync(binary).isFile);
});

Deno.test("the binary keeps no code cache where others could plant one", async () => {
  const dir = await Deno.makeTempDir({ prefix: "binary-" });
  for (let i = 0; i < 3; i++) await call(binary, ["version"], { TMPDIR: dir });
  assert.deepEqual([...Deno.readDirSync(dir)].map((e) => e.name), []);
  await Deno.remove(dir);
});

Deno.test("a link's name picks the subcommand", async () => {
  const dir = await Deno.makeTempDir({ prefix: "binary-" });
  for (const name of ["calico", "calico-ipam", "calicoctl"]) await Deno.symlink(binary, `${dir}/${name}`);
  const stdin = '{"cniVersion":"1.0.0"}';
  for (const name of ["calico", "calico-ipam"]) {
    const { code, stdout } = await call(`${dir}/${name}`, [], { CNI_COMMAND: "VERSION" }, stdin);
    assert.equal(code, 0);
    assert.ok(JSON.parse(stdout).supportedVersions.includes("1.1.0"), stdout);
  }
  assert.match((await call(`${dir}/calicoctl`, ["--help"])).stdout, /calicoctl/);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("an unknown word is refused with exit code 2 and the list of words", async () => {
  const { code, stderr } = await call(binary, ["sing"]);
  assert.equal(code, 2);
  assert.match(stderr, /"sing" is not a command[\s\S]*tortie node/);
});

Deno.test("a CNI call costs hardly more than the binary's bare start", async () => {
  const bare: number[] = [], cni: number[] = [];
  const time = async (into: number[], work: Promise<unknown>, start = performance.now()) => {
    await work;
    into.push(performance.now() - start);
  };
  for (let i = 0; i < 25; i++) {
    await time(bare, call(binary, ["version"]));
    await time(cni, call(binary, [], { CNI_COMMAND: "VERSION" }, '{"cniVersion":"1.0.0"}'));
  }
  // The least of many is what the work costs; the rest is what else the machine did.
  assert.ok(Math.min(...cni) < 1.4 * Math.min(...bare), `CNI ${Math.min(...cni)} ms, bare ${Math.min(...bare)} ms`);
});
