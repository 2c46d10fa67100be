/** Installing into a folder and taking it back, what systemd says of the units, and what is removed from a kernel. */
import assert from "node:assert/strict";
import { run, runOk } from "../../lib/process.ts";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import { openNetns } from "../../kernel/netns.ts";
import { listLinks } from "../../kernel/rtnetlink/link.ts";
import { listRoutes } from "../../kernel/rtnetlink/route.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { defaultUnitPaths, units } from "../../node/units.ts";
import { findLeftovers, removeLeftovers, tellLeftovers } from "../../node/leftovers.ts";
import { makeNamespace } from "../lab/namespaces.ts";

const main = new URL("../../main.ts", import.meta.url).pathname;

// The C library stays loaded; the first use is here, where no test is blamed for it.
RtSocket.open()[Symbol.dispose]();

/** A root folder with a program to install; removed at the end. */
async function makeRoot() {
  const folder = await Deno.makeTempDir({ prefix: "h8-install-" });
  const root = `${folder}/root`;
  await Deno.mkdir(root);
  const binary = `${folder}/tortie`;
  await Deno.writeTextFile(binary, "#!/bin/sh\necho a program\n", { mode: 0o755 });
  const tortie = (...args: string[]) =>
    run(Deno.execPath(), ["run", "-A", "--no-check", "--cached-only", main, ...args, "--root", root]);
  return {
    root,
    binary,
    install: (...args: string[]) => tortie("install", "--binary", binary, ...args),
    uninstall: (...args: string[]) => tortie("uninstall", ...args),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

/** Everything below a folder: path, and what is there (links by target, files by content and mode). */
async function tree(folder: string, path = ""): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entry of Deno.readDir(folder + path)) {
    const at = `${path}/${entry.name}`;
    if (entry.isSymlink) found[at] = `-> ${await Deno.readLink(folder + at)}`;
    else if (entry.isFile) {
      const mode = ((await Deno.stat(folder + at)).mode! & 0o777).toString(8);
      found[at] = `${mode} ${await Deno.readTextFile(folder + at)}`;
    } else {
      found[at] = "folder";
      Object.assign(found, await tree(folder, at));
    }
  }
  return found;
}

Deno.test("install puts program, links, units and CNI configuration in place; uninstall leaves nothing", async () => {
  await using host = await makeRoot();
  await Deno.mkdir(`${host.root}/opt/cni/bin`, { recursive: true });
  await Deno.writeTextFile(`${host.root}/opt/cni/bin/portmap`, "");
  const before = await tree(host.root);
  const done = await host.install("--set", "ETCD_ENDPOINTS=http://192.0.2.9:2379", "--kubeconfig", "/etc/k.conf");
  assert.equal(done.code, 0, done.stderr);
  const after = await tree(host.root);
  assert.equal(after["/usr/local/bin/tortie"], "755 #!/bin/sh\necho a program\n");
  for (
    const link of [
      "/usr/local/bin/calicoctl",
      ...["calico", "calico-ipam", "tortie-ipam"].map((n) => `/opt/cni/bin/${n}`),
    ]
  ) {
    assert.equal(after[link], "-> /usr/local/bin/tortie", link);
  }
  assert.match(after["/etc/tortie/tortie.env"]!, /^600 /);
  assert.match(after["/etc/tortie/tortie.env"]!, /^ETCD_ENDPOINTS="http:\/\/192\.0\.2\.9:2379"$/m);
  for (const [name, text] of Object.entries(units(defaultUnitPaths))) {
    assert.equal(after[`/etc/systemd/system/${name}`], `644 ${text}`);
  }
  const config = JSON.parse(after["/etc/cni/net.d/10-calico.conflist"]!.slice(4));
  assert.deepEqual(
    config.plugins.map((p: { type: string }) => p.type),
    ["calico", "portmap"],
    "no bandwidth plugin here",
  );
  assert.equal(config.plugins[0].kubernetes.kubeconfig, "/etc/k.conf");
  assert.match(done.stdout.trimEnd().split("\n").at(-1)!, /10-calico\.conflist$/, "the CNI configuration comes last");
  const gone = await host.uninstall();
  assert.equal(gone.code, 0, gone.stderr);
  assert.match(gone.stdout.split("\n")[0]!, /10-calico\.conflist$/, "the CNI configuration goes first");
  assert.deepEqual(await tree(host.root), before);
});

Deno.test("installing again changes nothing; a new program and a changed unit of ours are brought up to date", async () => {
  await using host = await makeRoot();
  await host.install();
  const first = await tree(host.root);
  assert.match((await host.install()).stdout, /everything is installed already/);
  assert.deepEqual(await tree(host.root), first);
  await Deno.writeTextFile(host.binary, "a newer program");
  assert.equal((await host.install()).stdout.trim(), "replace /usr/local/bin/tortie");
  assert.equal((await tree(host.root))["/usr/local/bin/tortie"], "755 a newer program");
});

Deno.test("settings are added to an edited environment file, and nothing else of it changes", async () => {
  await using host = await makeRoot();
  await host.install();
  const path = `${host.root}/etc/tortie/tortie.env`;
  await Deno.writeTextFile(path, "# mine\nNODENAME=alpha\nIP=autodetect");
  assert.equal((await host.install()).code, 0);
  assert.equal(await Deno.readTextFile(path), "# mine\nNODENAME=alpha\nIP=autodetect");
  await host.install("--set", "IP=10.0.0.1", "--set", 'AS=a"b\\');
  assert.equal(await Deno.readTextFile(path), '# mine\nNODENAME=alpha\nIP="10.0.0.1"\nAS="a\\"b\\\\"\n');
  const wrong = await host.install("--set", "NODNAME=x");
  assert.deepEqual([wrong.code, wrong.stderr.trim()], [1, "tortie: there is no setting called NODNAME (--set)"]);
});

Deno.test("foreign files are named and nothing is changed; --force moves them aside and uninstall puts them back", async () => {
  await using host = await makeRoot();
  await Deno.mkdir(`${host.root}/opt/cni/bin`, { recursive: true });
  await Deno.mkdir(`${host.root}/usr/local/bin`, { recursive: true });
  await Deno.writeTextFile(`${host.root}/opt/cni/bin/calico`, "Calico's");
  await Deno.symlink("/opt/calicoctl", `${host.root}/usr/local/bin/calicoctl`);
  const before = await tree(host.root);
  const refused = await host.install();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /files that are not tortie's: \/usr\/local\/bin\/calicoctl, \/opt\/cni\/bin\/calico\./);
  assert.deepEqual(await tree(host.root), before);
  assert.equal((await host.install("--force")).code, 0);
  const forced = await tree(host.root);
  assert.equal(forced["/opt/cni/bin/calico"], "-> /usr/local/bin/tortie");
  assert.match(forced["/opt/cni/bin/calico.before-tortie"]!, /Calico's$/);
  assert.equal((await host.uninstall()).code, 0);
  assert.deepEqual(await tree(host.root), before);
});

Deno.test("uninstall keeps what others put in our files' place, says so, and can be finished with --force", async () => {
  await using host = await makeRoot();
  await host.install();
  const path = `${host.root}/opt/cni/bin/calico`;
  await Deno.remove(path);
  await Deno.writeTextFile(path, "Calico's");
  const kept = await host.uninstall();
  assert.equal(kept.code, 1);
  assert.match(kept.stderr, /\/opt\/cni\/bin\/calico was changed since it was installed and stays/);
  const left = await tree(host.root);
  assert.equal(left["/opt/cni/bin/calico"], "644 Calico's");
  assert.equal(left["/usr/local/bin/tortie"], undefined);
  assert.equal((await host.uninstall("--force")).code, 0);
  assert.deepEqual(await tree(host.root), {});
});

Deno.test("a dry run says what would be done and does nothing", async () => {
  await using host = await makeRoot();
  const dry = await host.install("--dry-run");
  assert.match(dry.stdout, /^would create \/usr\/local\/bin\/tortie$/m);
  assert.deepEqual(await tree(host.root), {});
  await host.install("--no-cni");
  const before = await tree(host.root);
  assert.equal(before["/opt"], undefined);
  assert.match((await host.uninstall("--dry-run")).stdout, /^would remove \/usr\/local\/bin\/tortie$/m);
  assert.deepEqual(await tree(host.root), before);
});

Deno.test("wrong calls are answered with usage and exit code 2", async () => {
  await using host = await makeRoot();
  for (const wrong of [await host.install("--bogus"), await host.uninstall("--bogus")]) {
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /--bogus[\s\S]*usage: tortie (un)?install/);
  }
});

Deno.test("the files in systemd/ are the units that install writes", async () => {
  for (const [name, text] of Object.entries(units(defaultUnitPaths))) {
    assert.equal(await Deno.readTextFile(new URL(`../../systemd/${name}`, import.meta.url)), text, name);
  }
});

Deno.test("systemd takes the units without a word, and rates them no worse than 5.1", async () => {
  const folder = await Deno.makeTempDir({ prefix: "h8-units-" });
  try {
    const program = `${folder}/tortie`;
    await Deno.writeTextFile(program, "#!/bin/sh\n", { mode: 0o755 });
    const texts = units({ ...defaultUnitPaths, binary: program, bird: program });
    for (const [name, text] of Object.entries(texts)) await Deno.writeTextFile(`${folder}/${name}`, text);
    const verified = await run("systemd-analyze", ["verify", ...Object.keys(texts).map((name) => `${folder}/${name}`)]);
    assert.deepEqual([verified.code, verified.stdout, verified.stderr], [0, "", ""]);
    for (const [name, most] of [["tortie.service", 51], ["tortie-bird.service", 30]] as const) {
      const args = ["security", "--offline=true", `--threshold=${most}`, `${folder}/${name}`];
      const rated = await run("systemd-analyze", args);
      assert.equal(rated.code, 0, rated.stdout.slice(-100));
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("what an agent leaves in a kernel is found and removed, what others made stays", async () => {
  await using ns = await makeNamespace("h8");
  const ip = (line: string) => runOk("ip", ["-n", ns.name, ...line.split(" ")]);
  for (
    const line of [
      "link add cali1234567890a type veth peer name peer0",
      "link add eth7 type veth peer name peer1",
      "link add calibridge type bridge",
      "link add vxlan.calico type vxlan id 4096 dstport 4789",
      "link set cali1234567890a up",
      "link set eth7 up",
      "link set peer1 up",
      "addr add 192.0.2.1/24 dev eth7",
      "route add 10.65.0.2/32 dev cali1234567890a",
      "route add blackhole 10.65.0.0/26 proto 80",
      "route add 10.65.1.0/26 via 192.0.2.9 dev eth7 proto bird",
      "route add 10.99.0.0/16 via 192.0.2.9 dev eth7",
      "-6 route add blackhole fd00:1::/122 proto 80",
      "rule add not from all fwmark 0x200000/0x200000 lookup 1 priority 99 protocol 80",
      "route add throw 10.65.7.0/26 table 1 proto 80",
      "route add prohibit 10.65.0.0/16 table 1 proto 80 metric 2147483647",
      "link add bwcali0123 type ifb",
      "link add bwcali-not type bridge",
      "rule add from all lookup 7 priority 50",
    ]
  ) await ip(line);
  using netns = openNetns(`/var/run/netns/${ns.name}`);
  using socket = RtSocket.open(netns);
  const withoutBird = tellLeftovers(findLeftovers(socket, { prefix: "cali", bird: false }));
  assert.deepEqual(withoutBird.sort(), [
    "interface bwcali0123",
    "interface cali1234567890a",
    "interface vxlan.calico",
    "route 10.65.0.0/16",
    "route 10.65.0.0/26",
    "route 10.65.7.0/26",
    "route fd00:1::/122",
    "rule 99 to table 1",
  ]);
  const found = findLeftovers(socket, { prefix: "cali", bird: true });
  assert.deepEqual(removeLeftovers(socket, found), []);
  assert.deepEqual(removeLeftovers(socket, found), [], "a second time is fine");
  const names = [...listLinks(socket).values()].map((l) => l.name);
  assert.ok(names.includes("eth7") && names.includes("calibridge"));
  assert.ok(!names.some((name) => ["cali1234567890a", "vxlan.calico", "peer0"].includes(name)));
  const routes = listRoutes(socket, { family: 4, table: 254 });
  assert.deepEqual(routes.map((r) => r.dst).sort((a, b) => Number(a.n - b.n)), [
    parseCidr("10.99.0.0/16"),
    parseCidr("192.0.2.0/24"),
  ]);
  assert.deepEqual(routes.find((r) => r.dst.len === 16)!.via, parseIp("192.0.2.9"));
});
