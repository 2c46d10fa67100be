/** The Debian package on a host of the lab, by the real dpkg: what it brings, an upgrade, removing, purging. */
import assert from "node:assert/strict";
import { runOk } from "../../lib/process.ts";
import { units } from "../../node/units.ts";
import type { Host } from "../lab/host.ts";
import { makeHosts } from "../lab/hosts.ts";
import { binary } from "../lab/tortie.ts";

const root = new URL("../..", import.meta.url).pathname;
/** dpkg's own books. */
const books = /^\/var\/lib\/dpkg\//;

/** Files and links of the folders that a package writes into: path, kind, mode, target. */
async function filesOf(host: Host): Promise<string[]> {
  const folders = ["/etc", "/opt", "/usr/bin", "/usr/local", "/usr/lib/systemd", "/var/lib"];
  const found = await host.runOk("find", [...folders, "-xdev", "-printf", "%p %y %m %l\n"]);
  return found.split("\n").filter((line) => !books.test(line) && / [fl] /.test(line)).sort();
}

Deno.test("the package brings the program and its units, says nothing to systemd where there is none, and leaves nothing", async () => {
  await using lab = await makeHosts(1, { prefix: "deb" });
  const [host] = lab.hosts as [Host];
  await runOk(Deno.execPath(), ["run", "-A", `${root}.ci/deb.ts`, binary, host.dir], { timeoutMs: 120_000 });
  const [deb] = [...Deno.readDirSync(host.dir)].filter((f) => f.name.endsWith(".deb")).map((f) =>
    `${host.dir}/${f.name}`
  );
  const before = await filesOf(host);
  await host.runOk("dpkg", ["-i", deb!], { timeoutMs: 60_000 });
  const brought = (await filesOf(host)).filter((line) => !before.includes(line));
  const unitLines = Object.keys(units({ binary: "", environmentFile: "", bird: "" }))
    .map((name) => `/usr/lib/systemd/system/${name} f 644 `);
  const wanted = [
    "/etc/tortie/tortie.env f 600 ",
    "/usr/bin/calicoctl l 777 tortie",
    "/usr/bin/tortie f 755 ",
    ...unitLines,
  ];
  assert.deepEqual(brought, wanted.sort());
  assert.match(await host.runOk("tortie", ["version"]), /^\d+\.\d+/);
  assert.match(await host.runOk("calicoctl", ["--help"]), /calicoctl/);

  await Deno.writeTextFile(host.path("/etc/tortie/tortie.env"), "ETCD_ENDPOINTS=http://192.0.2.1:2379\n");
  await host.runOk("dpkg", ["-i", deb!], { timeoutMs: 60_000 });
  assert.match(
    await Deno.readTextFile(host.path("/etc/tortie/tortie.env")),
    /192\.0\.2\.1/,
    "an upgrade keeps settings",
  );

  await host.runOk("dpkg", ["-r", "tortie"]);
  assert.deepEqual((await filesOf(host)).filter((l) => !before.includes(l)), ["/etc/tortie/tortie.env f 600 "]);
  await host.runOk("dpkg", ["-P", "tortie"]);
  assert.deepEqual((await filesOf(host)).filter((l) => !before.includes(l)), []);
});
