import { badInput, type Command } from "../command.ts";
import type { Host } from "../host.ts";
import type { Surroundings } from "../surroundings.ts";

/** `node checksystem`: whether this kernel has what is needed. */
export const nodeCheckSystem: Command = {
  words: ["node", "checksystem"],
  summary: "Look whether this host's kernel has what is needed",
  usage: "",
  flags: [{ name: "kernel-config", short: "f", value: "FILE", help: "the kernel's configuration" }],
  anyVersion: true,
  async run({ flags, surroundings }) {
    const { checkSystem } = await import("../system_check.ts");
    const host = await asRoot(surroundings);
    if (!await checkSystem(surroundings, host, flags.text("kernel-config"))) {
      throw badInput("system doesn't meet one or more minimum systems requirements to run Calico");
    }
    surroundings.out("System meets minimum system requirements to run Calico!\n");
    return 0;
  },
};

/** `node diags`: an archive of what is to know about this host. */
export const nodeDiags: Command = {
  words: ["node", "diags"],
  summary: "Collect what is to know about this host into one archive",
  usage: "",
  flags: [{ name: "log-dir", value: "DIR", help: "files to copy too; default /var/log/calico" }],
  anyVersion: true,
  async run({ flags, surroundings }) {
    const { collectNode } = await import("../diagnostics.ts");
    return await collectNode(surroundings, await asRoot(surroundings), flags.text("log-dir") ?? "/var/log/calico");
  },
};

/** `node run`: refused, with what to do instead. */
export const nodeRun: Command = {
  words: ["node", "run"],
  summary: "Refused: tortie node is started by systemd, not in a container",
  usage: "",
  flags: [],
  anyVersion: true,
  run() {
    const todo = "Run `tortie install`, then `systemctl enable --now tortie`; `tortie node` runs it in the foreground";
    throw badInput("a node is not run as a container", todo);
  },
};

/** @throws Problem "bad-input" for a user who is not root. */
async function asRoot(surroundings: Surroundings): Promise<Host> {
  const host = await surroundings.host();
  if (host.isRoot) return host;
  throw badInput("Need super user privileges: Operation not permitted");
}
