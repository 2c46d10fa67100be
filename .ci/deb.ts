/**
 * `deno task deb [BINARY [FOLDER]]`: makes build/tortie_VERSION_ARCH.deb out of build/tortie. Nothing is started when it is
 * installed: without a datastore there is nothing to do. An upgrade restarts the agent, which finds its rules in place; what
 * a removed agent would leave in the kernel goes with the package.
 */
import { run, runOk } from "../lib/process.ts";
import { version } from "../lib/version.ts";
import { environmentText } from "../node/install_items.ts";
import { defaultUnitPaths, units } from "../node/units.ts";

const root = new URL("..", import.meta.url).pathname;
const paths = { ...defaultUnitPaths, binary: "/usr/bin/tortie" };

/** A file of the package. */
interface File {
  text: string;
  mode: number;
}

const unitNames = Object.keys(units(paths)).join(" ");

/** What the package says of itself. The runtime needs glibc and no other library. */
const control = (arch: string, kilobytes: number): string =>
  `Package: tortie
Version: ${version}
Architecture: ${arch}
Maintainer: tortie maintainers <maintainers@tortie.invalid>
Installed-Size: ${kilobytes}
Depends: libc6 (>= 2.28), libgcc-s1, iptables, ipset, kmod
Recommends: bird2, conntrack
Suggests: etcd-server, wireguard-tools
Section: net
Priority: optional
Description: network agent for Linux hosts, compatible with Calico
 Network policy for hosts and pods, addresses, routes (BGP, IPIP, VXLAN,
 WireGuard), CNI plugin and command line, with etcd v3 as datastore: the same
 keys and objects as Project Calico. Also protects a single host without etcd.
`;

/** systemd may be absent (a chroot, an image that is being made): then there is nothing to tell it. */
const ifSystemd = (commands: string): string => `if [ -d /run/systemd/system ]; then\n${commands}fi\n`;

const scripts: Record<string, string> = {
  postinst: ifSystemd(`  systemctl daemon-reload
  # An agent that ran goes on with the new program.
  if [ "$1" = configure ] && [ -n "$2" ]; then systemctl try-restart tortie-store.service tortie.service || true; fi
`),
  prerm: `if [ "$1" = remove ]; then\n${
    // In a chroot the kernel is another system's.
    ifSystemd(`  systemctl disable --now --quiet tortie-bird.path tortie.service || true
  /usr/bin/tortie uninstall || echo "tortie: something of it is still there; see above" >&2
  systemctl stop ${unitNames} || true
`)}fi\n`,
  postrm: `${ifSystemd("  systemctl daemon-reload || true\n")}if [ "$1" = purge ]; then
  rm -rf /var/lib/tortie
  rmdir --ignore-fail-on-non-empty /etc/tortie 2>/dev/null || true
fi
`,
};

async function main([binary = `${root}build/tortie`, folder = `${root}build`]: string[]): Promise<number> {
  const arch = (await runOk("dpkg", ["--print-architecture"])).trim();
  const work = await Deno.makeTempDir({ prefix: "tortie-deb-" });
  try {
    await Deno.chmod(work, 0o755);
    await put(work, files());
    await Deno.copyFile(binary, `${work}/usr/bin/tortie`);
    await Deno.chmod(`${work}/usr/bin/tortie`, 0o755);
    await Deno.symlink("tortie", `${work}/usr/bin/calicoctl`);
    const size = Math.ceil((await Deno.stat(binary)).size / 1024);
    await put(work, { "DEBIAN/control": { text: control(arch, size), mode: 0o644 } });
    const output = `${folder}/tortie_${version}_${arch}.deb`;
    // gzip at level 1: the runtime is most of it, and packing it harder takes a minute for a few megabytes.
    await runOk("dpkg-deb", ["-Zgzip", "-z1", "--root-owner-group", "--build", work, output], { timeoutMs: 120_000 });
    console.log(`${output}: ${((await Deno.stat(output)).size / 1e6).toFixed(1)} MB`);
    const lint = await run("lintian", ["--fail-on", "error", output]).catch(() => undefined);
    if (lint) console.log(lint.stdout.trimEnd());
    return 0;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Everything but the program itself, by path. */
function files(): Record<string, File> {
  const found: Record<string, File> = {
    "etc/tortie/tortie.env": { text: environmentText({}), mode: 0o600 },
    "DEBIAN/conffiles": { text: "/etc/tortie/tortie.env\n", mode: 0o644 },
    "usr/bin/.keep": { text: "", mode: 0o644 },
  };
  for (const [name, text] of Object.entries(units(paths))) {
    found[`usr/lib/systemd/system/${name}`] = { text, mode: 0o644 };
  }
  for (const [name, text] of Object.entries(scripts)) {
    found[`DEBIAN/${name}`] = { text: `#!/bin/sh\nset -e\n${text}`, mode: 0o755 };
  }
  return found;
}

async function put(folder: string, all: Record<string, File>): Promise<void> {
  for (const [path, { text, mode }] of Object.entries(all)) {
    const file = `${folder}/${path}`;
    await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true, mode: 0o755 });
    if (path.endsWith("/.keep")) continue;
    await Deno.writeTextFile(file, text, { mode });
    await Deno.chmod(file, mode);
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
