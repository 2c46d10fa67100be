import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import type { Call, Command } from "../command.ts";

/** `ipam check`: what IPAM's records and the objects that use addresses say of each other. */
export const ipamCheck: Command = {
  words: ["ipam", "check"],
  summary: "Look for addresses that are given and not used, or used and not given, and for broken records",
  usage: "",
  flags: [
    { name: "show-all-ips", help: "every address that is looked at" },
    { name: "show-problem-ips", help: "every address that is wrong" },
    { name: "output", short: "o", value: "FILE", help: "write a report, which ipam release --from-report takes" },
    { name: "kubeconfig", value: "FILE", help: "accepted and ignored: addresses of load balancers are not checked" },
    { name: "exit-code", help: "exit with 1 when something is wrong" },
  ],
  examples: ["ipam check --show-problem-ips -o report.json"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const resources = await call.resources();
  const cluster = await resources.get<ClusterInformation>("ClusterInformation", "default");
  const { problemCount } = await import("../ipam_check.ts");
  const { checkReport, checkText } = await import("../ipam_check_text.ts");
  const { look } = await import("../ipam_look.ts");
  const { view, check } = await look(resources);
  surroundings.out(checkText(view, check, { all: flags.on("show-all-ips"), problems: flags.on("show-problem-ips") }));
  for (const problem of view.problems()) surroundings.err(`warning: ${problem.message}\n`);
  const file = flags.text("output");
  if (file !== undefined) {
    await (await surroundings.host()).writeFile(file, checkReport(check, cluster, surroundings.version));
  }
  const wrong = problemCount(check) > 0 || view.problems().length > 0;
  return flags.on("exit-code") && wrong ? 1 : 0;
}
