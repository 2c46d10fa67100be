import { Problem } from "./problem.ts";

/** Where Calico keeps this node's name. */
export const nodeNameFile = "/var/lib/calico/nodename";

/** What the decision depends on. */
export interface NodeNameSources {
  env: (name: string) => string | undefined;
  /** Content of the nodename file; undefined when it does not exist. */
  readFile: (path: string) => string | undefined;
  hostname: () => string;
}

/**
 * This node's name, the one place that decides it. First non-empty: NODENAME (trimmed, case kept), the nodename file
 * (CALICO_NODENAME_FILE), HOSTNAME lower-cased, the machine's own name lower-cased.
 * Source: spec/node.md §2 of calico/node's start-up.
 * @param from where to look instead of this machine, for each that is given.
 * @throws Problem when the result cannot be part of an etcd key.
 */
export function nodeName(from: Partial<NodeNameSources> = {}): string {
  const sources = { ...systemSources, ...from };
  const file = sources.env("CALICO_NODENAME_FILE") || nodeNameFile;
  const candidates: [string, string][] = [
    ["NODENAME", sources.env("NODENAME")?.trim() ?? ""],
    [file, sources.readFile(file)?.trim() ?? ""],
    ["HOSTNAME", (sources.env("HOSTNAME") ?? "").trim().toLowerCase()],
    ["the machine's host name", sources.hostname().trim().toLowerCase()],
  ];
  const [source, name] = candidates.find(([, n]) => n !== "") ?? ["", ""];
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/.test(name)) {
    throw new Problem({
      code: "bad-input",
      what: `"${name}" cannot be a node name`,
      where: source,
      todo: "Set NODENAME to letters, digits, '-' and '.'",
    });
  }
  return name;
}

const systemSources: NodeNameSources = {
  env: (name) => Deno.env.get(name),
  readFile: (path) => {
    try {
      return Deno.readTextFileSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  },
  hostname: () => Deno.hostname(),
};
