import { Problem } from "../../lib/problem.ts";
import { kinds } from "../../datastore/kinds/index.ts";
import type { Call, Command } from "../command.ts";

/** `cluster diags`: an archive of all objects and of IPAM's records. */
export const clusterDiags: Command = {
  words: ["cluster", "diags"],
  summary: "Collect all objects and IPAM's records into one archive",
  usage: "",
  flags: [
    { name: "since", value: "DURATION", help: "accepted and ignored: logs are those of node diags" },
    { name: "max-logs", value: "N", help: "accepted and ignored" },
    { name: "focus-nodes", value: "NAMES", help: "accepted and ignored" },
  ],
  anyVersion: true,
  async run(call) {
    const { collectCluster } = await import("../diagnostics.ts");
    const { surroundings } = call;
    return await collectCluster(surroundings, await surroundings.host(), textsOf(call));
  },
};

/** One file a kind, and what IPAM's records say. A kind that cannot be read leaves its reason. */
async function* textsOf(call: Call): AsyncGenerator<[string, string]> {
  const { render } = await import("../output.ts");
  const { look } = await import("../ipam_look.ts");
  const { checkText } = await import("../ipam_check_text.ts");
  const resources = await call.resources();
  const attempt = async (text: () => Promise<string>): Promise<string> => {
    try {
      return await text();
    } catch (error) {
      if (!(error instanceof Problem) || error.code === "unavailable") throw error;
      return `${error.message}\n`;
    }
  };
  for (const kind of kinds.filter((k) => !k.internal)) {
    yield [
      `${kind.plural}.yaml`,
      await attempt(async () => {
        const { items, revision, undecodable } = await resources.list(kind.kind);
        const context = { namespaces: true, asNumber: 0 };
        const unread = undecodable.map(({ key, why }) => `# ${key}: ${why}\n`).join("");
        return render([{ kind, items, revision }], { is: "yaml" }, false, context) + unread;
      }),
    ];
  }
  yield [
    "ipam_check.txt",
    await attempt(async () => {
      const { view, check } = await look(resources);
      return checkText(view, check, { all: true, problems: true });
    }),
  ];
}
