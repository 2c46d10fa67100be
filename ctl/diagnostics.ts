import { rfc3339 } from "../lib/clock.ts";
import { messageOf } from "../lib/problem.ts";
import { unixRequest } from "../lib/unix_http.ts";
import type { Host } from "./host.ts";
import type { Surroundings } from "./surroundings.ts";

/** A program whose output is kept: what is said of it, its words, and the file's name. */
type Step = [said: string, words: string, file: string];

/** What calicoctl collects, and what of ours is beside it. Source: calicoctl commands/node/diags.go. */
const steps: Step[] = [
  ["", "date", "date"],
  ["", "hostname", "hostname"],
  ["Dumping routes (IPv4)", "ip -4 route", "ipv4_route"],
  ["Dumping routes (IPv6)", "ip -6 route", "ipv6_route"],
  ["Dumping interface info (IPv4)", "ip -4 addr", "ipv4_addr"],
  ["Dumping interface info (IPv6)", "ip -6 addr", "ipv6_addr"],
  ["Dumping links, rules and neighbours", "ip -d link", "links"],
  ["", "ip rule", "ipv4_rules"],
  ["", "ip neigh", "neighbours"],
  ["Dumping nftables", "nft -n -a list ruleset", "nft_ruleset"],
  ["Dumping iptables (IPv4)", "iptables-save -c", "ipv4_tables"],
  ["Dumping iptables (IPv6)", "ip6tables-save -c", "ipv6_tables"],
  ["Dumping ipsets", "ipset list", "ipsets"],
  ["Copying journals", "journalctl -u calico-node.service --no-pager", "journalctl_calico_node"],
  ["", "journalctl -u tortie.service -u tortie-bird.service --no-pager -n 20000", "journalctl_tortie"],
  ["Dumping ss", "ss -a -n", "ss"],
];

/**
 * `node diags`: what a colleague needs to understand this host, as one archive in a new folder. A program that is not there
 * or fails is told of and leaves a gap. @param logFolder files that are copied too.
 */
export async function collectNode(surroundings: Surroundings, host: Host, logFolder: string): Promise<number> {
  const { out } = surroundings;
  out("Collecting diagnostics\n");
  const folder = await newFolder(surroundings, host);
  for (const [said, words, file] of steps) {
    if (said) out(`${said}\n`);
    const [program, ...args] = words.split(" ") as [string, ...string[]];
    const result = await host.run(program, args);
    if (result?.code !== 0) out(`Failed to run command: ${words}\nError: ${result?.output ?? "not installed"}\n`);
    if (result) await host.writeFile(`${folder}/diagnostics/${file}`, result.output);
  }
  out("Asking the agent\n");
  await host.writeFile(`${folder}/diagnostics/agent_status.json`, await agentStatus(surroundings));
  if (await host.exists(logFolder)) {
    out("Copying Calico logs\n");
    await host.run("cp", ["-r", logFolder, `${folder}/diagnostics/logs`]);
  } else out(`No logs found in ${logFolder}; skipping log copying\n`);
  return await pack(surroundings, host, folder);
}

/**
 * `cluster diags`: every object and IPAM's records, as one archive in a new folder.
 * @param texts contents by file name, made one after the other. Passwords stand in etcd and secrets, not in objects.
 */
export async function collectCluster(
  surroundings: Surroundings,
  host: Host,
  texts: AsyncIterable<[file: string, text: string]>,
): Promise<number> {
  surroundings.out("Collecting diagnostics of the cluster\n");
  const folder = await newFolder(surroundings, host);
  for await (const [file, text] of texts) await host.writeFile(`${folder}/diagnostics/${file}`, text);
  return await pack(surroundings, host, folder);
}

async function newFolder({ out }: Surroundings, host: Host): Promise<string> {
  const folder = await host.temporaryFolder();
  out(`Using temp dir: ${folder}\n`);
  await host.run("mkdir", ["-p", `${folder}/diagnostics`]);
  return folder;
}

async function pack({ out, err, clock }: Surroundings, host: Host, folder: string): Promise<number> {
  const [date, time] = rfc3339(clock.now()).replace(/[-:Z]/g, "").split("T");
  const archive = `${folder}/diags-${date}_${time}.tar.gz`;
  const packed = await host.run("tar", ["-C", folder, "-zcf", archive, "diagnostics"]);
  if (packed?.code !== 0) {
    err(`Error compressing the diagnostics: ${packed?.output ?? "tar is not installed"}\n`);
    return 1;
  }
  out(`\nDiags saved to ${archive}\nIf required, you can upload the diagnostics bundle to a file sharing service.\n`);
  return 0;
}

async function agentStatus({ env }: Surroundings): Promise<string> {
  const socket = `${env("TORTIE_RUN_DIR") ?? "/run/tortie"}/agent.sock`;
  try {
    return (await unixRequest(socket, { method: "GET", target: "/v1/status", timeoutMs: 5_000 })).body;
  } catch (error) {
    return `no answer of the agent at ${socket}: ${messageOf(error)}\n`;
  }
}
