import assert from "node:assert/strict";
import { environmentText, withSettings } from "./install_items.ts";
import { type Item, type Manifest, noManifest, planInstall, planUninstall, type Present } from "./install_plan.ts";

const link: Item = { path: "/bin/calico", is: "link", target: "/bin/tortie" };
const file: Item = { path: "/etc/unit", is: "file", text: "new", mode: 0o644 };
const env: Item = { path: "/etc/env", is: "file", text: "A=1", mode: 0o600, keep: "edited" };
const digestOf = (text: string) => `<${text}>`;
const present = (text: string, mode = 0o644): Present => ({ is: "file", digest: `<${text}>`, mode });

function plan(item: Item, now: Present | undefined, manifest: Partial<Manifest> = {}, force = false) {
  const there = new Map(now ? [[item.path, now]] : []);
  const { changes, foreign } = planInstall([item], there, { ...noManifest, ...manifest }, force, digestOf);
  return [changes.map((c) => [c.told, c.backup]), foreign];
}

Deno.test("install: what is missing is created, what is equal is left, another mode is mended", () => {
  assert.deepEqual(plan(file, undefined), [[["create /etc/unit", undefined]], []]);
  assert.deepEqual(plan(file, present("new")), [[], []]);
  assert.deepEqual(plan(file, present("new", 0o600)), [[["replace /etc/unit", undefined]], []]);
  assert.deepEqual(plan(link, { is: "link", target: "/bin/tortie" }), [[], []]);
});

Deno.test("install: our older file is replaced, a foreign one is refused, or moved aside with force", () => {
  const ours = { items: { "/etc/unit": "sha256:<old>" } };
  assert.deepEqual(plan(file, present("old"), ours), [[["replace /etc/unit", undefined]], []]);
  assert.deepEqual(plan(file, present("edited"), ours), [[], ["/etc/unit"]]);
  assert.deepEqual(plan(link, present("binary")), [[], ["/bin/calico"]]);
  assert.deepEqual(plan(link, present("binary"), {}, true), [
    [["replace link /bin/calico -> /bin/tortie, the old one is kept", "/bin/calico.before-tortie"]],
    [],
  ]);
  assert.deepEqual(plan(link, { is: "other" }, {}, true), [[], ["/bin/calico"]], "a folder is never moved");
});

Deno.test("install: the operator's settings are never overwritten", () => {
  assert.deepEqual(plan(env, present("B=2", 0o600)), [[], []]);
  assert.deepEqual(plan(env, undefined), [[["create /etc/env", undefined]], []]);
});

Deno.test("uninstall: last installed goes first, changed files stay unless forced, backups return", () => {
  const manifest: Manifest = {
    ...noManifest,
    items: { "/bin/calico": "link:/bin/tortie", "/etc/env": "sha256:<A=1>", "/etc/unit": "sha256:<new>" },
    replaced: { "/bin/calico": "/bin/calico.before-tortie" },
  };
  const now = new Map<string, Present>([
    ["/bin/calico", { is: "link", target: "/bin/tortie" }],
    ["/etc/env", present("B=2")],
    ["/etc/unit", present("edited")],
  ]);
  const editable = new Set(["/etc/env"]);
  assert.deepEqual(planUninstall(manifest, now, editable, false), {
    remove: ["/etc/env", "/bin/calico"],
    kept: ["/etc/unit"],
    restore: [["/bin/calico.before-tortie", "/bin/calico"]],
  });
  assert.deepEqual(planUninstall(manifest, now, editable, true).remove, ["/etc/unit", "/etc/env", "/bin/calico"]);
  now.set("/bin/calico", present("another program"));
  const other = planUninstall(manifest, now, editable, false);
  assert.deepEqual([other.kept, other.restore], [["/etc/unit", "/bin/calico"], []]);
  now.delete("/bin/calico");
  assert.deepEqual(
    planUninstall(manifest, now, editable, false).restore.length,
    1,
    "what gave way returns to the empty place",
  );
});

Deno.test("settings are quoted as systemd reads them, and replace their older lines only", () => {
  assert.match(environmentText({ ETCD_PASSWORD: 'a"b\\c$d' }), /^ETCD_PASSWORD="a\\"b\\\\c\\\$d"$/m);
  assert.match(environmentText({ IP: "autodetect" }), /^#NODENAME=$/m);
  assert.equal(withSettings("# x\nIP=1\nIPX=2", { IP: "3" }), '# x\nIPX=2\nIP="3"\n');
  assert.equal(withSettings("", { IP: "3" }), 'IP="3"\n');
});
