/**
 * Picks a subcommand by the name the binary was called by, by CNI_COMMAND, or by the first word, and imports only that
 * one: a CNI call must not pay for what the agent needs.
 */

/** A subcommand: its arguments in, its exit code out. */
type Subcommand = (args: string[]) => Promise<number>;

/** What each first word runs. The import is dynamic, so a word costs nothing until it is said. */
const subcommands: Record<string, () => Promise<Subcommand>> = {
  cni: async () => (await import("./cni/plugin.ts")).cni,
  ipam: async () => (await import("./cni/plugin.ts")).ipam,
  node: async () => (await import("./node/main.ts")).node,
  agent: async () => (await import("./node/main.ts")).agent,
  routing: async () => (await import("./node/main.ts")).routing,
  controllers: async () => (await import("./controllers/main.ts")).main,
  store: async () => (await import("./store/main.ts")).main,
  api: async () => (await import("./api/main.ts")).main,
  ctl: async () => (await import("./ctl/main.ts")).main,
  protect: async () => (await import("./node/protect/main.ts")).protect,
  install: async () => (await import("./node/install.ts")).install,
  uninstall: async () => (await import("./node/install.ts")).uninstall,
};

/** Names of links to the binary that stand for a first word. */
const links: Record<string, string> = {
  "calico": "cni",
  "calico-ipam": "ipam",
  "tortie-ipam": "ipam",
  "calicoctl": "ctl",
};

const help = `tortie: a network agent for Linux hosts

  tortie node               start-up, then agent and routing in one supervised process; what systemd starts
  tortie agent | routing    one role alone
  tortie ctl ...            look at and change the cluster (also as calicoctl); tortie ctl --help
  tortie protect            one command that closes a host's ports but ssh and web, and undoes it unless you confirm
  tortie install | uninstall
                            links, CNI configuration and systemd units on this host
  tortie controllers        keeps in etcd what Kubernetes says: policies, profiles, labels
  tortie api                resources over HTTP, and pages for a browser (tortie node serves them on a socket, too)
  tortie store              the datastore of one host without etcd: etcd's v3 API over one file
  tortie cni | ipam         CNI plugin (also as calico, calico-ipam, or when CNI_COMMAND is set)
  tortie version | help
`;

/** The subcommand's name and its arguments. `calledAs` is the last part of argv[0]. */
export function choose(
  calledAs: string,
  args: string[],
  cniCommand: string | undefined,
): { name: string; args: string[] } {
  const link = links[calledAs];
  if (link) return { name: link, args };
  if (cniCommand && args.length === 0) return { name: "cni", args };
  return { name: args[0] ?? "help", args: args.slice(1) };
}

/** Runs the subcommand that was asked for. */
async function main(): Promise<number> {
  // argv[0] is the link's name; Deno.execPath() is its target. /proc is the cheapest way to it.
  const calledAs = new TextDecoder().decode(Deno.readFileSync("/proc/self/cmdline")).split("\0", 1)[0]!.split("/")
    .pop()!;
  const { name, args } = choose(calledAs, Deno.args, Deno.env.get("CNI_COMMAND"));
  const load = subcommands[name];
  if (load) return await (await load())(args);
  if (name === "version" || name === "--version" || name === "-v") {
    console.log((await import("./lib/version.ts")).version);
    return 0;
  }
  if (name === "help" || name === "--help" || name === "-h") {
    console.log(help.trimEnd());
    return 0;
  }
  console.error(`tortie: "${name}" is not a command.\n\n${help.trimEnd()}`);
  return 2;
}

if (import.meta.main) Deno.exit(await main());
