import type { Host } from "./host.ts";
import type { Lab } from "./hosts.ts";

/** What an operator would look at on a host, by file name. */
const looks: Record<string, string> = {
  "links.txt": "ip -d address",
  "routes.txt": "ip route show table all; ip -6 route show table all; ip rule; ip neigh",
  "rules.txt": "iptables-save -c; ip6tables-save -c; iptables-legacy-save -c 2>/dev/null",
  "sets.txt": "ipset save",
  "bird.txt": "birdc -s /run/tortie/bird.ctl show protocols all; birdc -s /run/tortie/bird.ctl show route all; " +
    "cat /run/tortie/bird.conf",
  "processes.txt": "ps auxww; ls -lR /run/tortie /var/lib/tortie /run/netns",
};

/**
 * Runs `work`; when it fails, keeps logs, rules, sets, routes and etcd's contents in `build/artefacts/<name>` and says
 * so, then throws what it threw.
 * @param more texts of the test's own, by file name.
 */
export async function keepOnFailure<T>(
  name: string,
  lab: Lab,
  work: () => Promise<T>,
  more: Record<string, () => Promise<string>> = {},
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    console.error(`what was there is kept in ${await keepArtefacts(name, lab, more)}`);
    throw error;
  }
}

/** Writes what can be seen of a lab into `build/artefacts/<name>` (replaced) and answers that path. */
export async function keepArtefacts(
  name: string,
  lab: Lab,
  more: Record<string, () => Promise<string>> = {},
): Promise<string> {
  const dir = new URL(`../../build/artefacts/${name.replace(/[^\w.-]+/g, "-")}`, import.meta.url).pathname;
  await Deno.remove(dir, { recursive: true }).catch(() => {});
  await Deno.mkdir(dir, { recursive: true });
  for (const host of lab.hosts) await keepHost(host, `${dir}/${host.name}`);
  for (const [file, text] of Object.entries(more)) {
    await Deno.writeTextFile(`${dir}/${file}`, await text().catch((error) => `not to be had: ${error}`));
  }
  return dir;
}

async function keepHost(host: Host, dir: string): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  for (const [file, command] of Object.entries(looks)) {
    const { stdout, stderr } = await host.run("sh", ["-c", command], { timeoutMs: 10_000 });
    await Deno.writeTextFile(`${dir}/${file}`, stdout + stderr);
  }
  for await (const entry of Deno.readDir(host.dir)) {
    if (entry.isFile && entry.name.endsWith(".log")) {
      await Deno.copyFile(`${host.dir}/${entry.name}`, `${dir}/${entry.name}`);
    }
  }
}
