/** The command line as a user runs it: a process, a real etcd, files. */
import assert from "node:assert/strict";
import { run, type RunResult } from "../../lib/process.ts";
import { tortie } from "../lab/agent_world.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { freePorts } from "../lab/port.ts";

type Ctl = (args: string[], stdin?: string) => Promise<RunResult>;

/** `tortie ctl` against an etcd, in a folder of its own. */
function ctlFor(endpoint: string, env: Record<string, string> = {}): Ctl {
  const [program, ...words] = tortie() as [string, ...string[]];
  return (args, stdin) =>
    run(program, [...words, "ctl", ...args], { stdin, env: { ETCD_ENDPOINTS: endpoint, ...env }, timeoutMs: 60_000 });
}

async function ok(ctl: Ctl, args: string[], stdin?: string): Promise<string> {
  const { code, stdout, stderr } = await ctl(args, stdin);
  assert.equal(code, 0, `${args.join(" ")}: ${stderr}${stdout}`);
  assert.equal(stderr, "", args.join(" "));
  return stdout;
}

async function stored(etcd: Etcd, plural: string): Promise<string[]> {
  return [...(await etcd.dump(`/calico/resources/v3/projectcalico.org/${plural}/`)).keys()].map((k) =>
    k.split("/").pop()!
  );
}

const poolAndPeer = `# a pool and a peer
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: main}
spec:
  cidr: 10.65.0.0/16
  natOutgoing: true
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.1, asNumber: 64512}
`;

Deno.test("a user stores, looks at, changes and deletes objects", async () => {
  await using etcd = await startEtcd();
  const ctl = ctlFor(etcd.endpoint);
  const file = await Deno.makeTempFile({ prefix: "h2-", suffix: ".yaml" });
  try {
    await Deno.writeTextFile(file, poolAndPeer);
    assert.equal(await ok(ctl, ["apply", "-f", file]), "Successfully applied 2 resource(s)\n");
    assert.equal(
      await ok(ctl, ["get", "pools"]),
      "NAME   CIDR           SELECTOR   \nmain   10.65.0.0/16   all()      \n\n",
    );
    assert.deepEqual((await stored(etcd, "tiers")).sort(), ["default", "kube-admin", "kube-baseline"]);
    const yaml = await ok(ctl, ["get", "ippool", "main", "-o", "yaml"]);
    assert.match(yaml, /\n {2}cidr: 10\.65\.0\.0\/16\n {2}ipipMode: Never\n {2}natOutgoing: true\n/);
    assert.equal(await ok(ctl, ["apply", "-f", "-"], yaml), "Successfully applied 1 'IPPool' resource(s)\n");
    await ok(ctl, ["patch", "ippool", "main", "-p", '{"spec": {"natOutgoing": null}}']);
    assert.doesNotMatch(await ok(ctl, ["get", "ippool", "main", "-o", "json"]), /natOutgoing/);
    const usage = await ok(ctl, ["ipam", "show"]);
    assert.match(usage, /\| IP Pool {2}\| 10\.65\.0\.0\/16 \| {5}65536 \| {5}0 \(0%\) \|/);
    assert.equal(await ok(ctl, ["delete", "-f", file]), "Successfully deleted 2 resource(s)\n");
    assert.deepEqual(await stored(etcd, "ippools"), []);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a pool that overlaps another is refused with the field, and nothing is stored", async () => {
  await using etcd = await startEtcd();
  const ctl = ctlFor(etcd.endpoint);
  await ok(ctl, ["create", "-f", "-"], poolAndPeer);
  const other = poolAndPeer.split("---")[0]!.replace("main", "other").replace("10.65.0.0/16", "10.65.64.0/18");
  const { code, stdout, stderr } = await ctl(["create", "-f", "-"], other);
  assert.equal(code, 1);
  assert.equal(stdout, "");
  const overlap = "IPPool(other) CIDR overlaps with IPPool(main) CIDR 10.65.0.0/16";
  assert.equal(
    stderr,
    `failed to create 'IPPool' resource: [error with field IPPool.Spec.CIDR = '10.65.64.0/18' (${overlap})]\n`,
  );
  assert.deepEqual(await stored(etcd, "ippools"), ["main"]);
});

Deno.test("an etcd that is away, and settings that are none, are told in one line with exit code 1", async () => {
  const [port] = freePorts(1);
  const away = await ctlFor(`http://127.0.0.1:${port}`)(["get", "nodes"]);
  assert.equal(away.code, 1);
  assert.match(away.stderr, new RegExp(`^[^\\n]*127\\.0\\.0\\.1:${port}[^\\n]*\\n$`));
  const unset = await ctlFor("")(["get", "nodes"]);
  assert.equal(unset.code, 1);
  assert.match(unset.stdout, /^Failed to create Calico API client: [^\n]*ETCD_ENDPOINTS[^\n]*\n$/);
});

Deno.test("help needs neither etcd nor settings, and lists every command", async () => {
  const help = await ok(ctlFor(""), ["--help"]);
  for (const word of ["get", "apply", "delete", "ipam show", "node status", "version"]) {
    assert.match(help, new RegExp(`^ {2}${word} `, "m"));
  }
  assert.match(await ok(ctlFor(""), ["get", "--help"]), /--output FORMAT/);
});

Deno.test("node status says that nothing runs here", async () => {
  const dir = await Deno.makeTempDir({ prefix: "h2-" });
  try {
    const { code, stderr } = await ctlFor("", { TORTIE_RUN_DIR: dir })(["node", "status"]);
    assert.deepEqual([code, stderr], [1, "Calico process is not running.\n"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
