import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import { badInput, type Command } from "../command.ts";

/** `datastore migrate lock` and `unlock`: whether agents may program and CNI may add. */
const toggle = (word: "lock" | "unlock"): Command => ({
  words: ["datastore", "migrate", word],
  summary: word === "lock" ? "Stop agents and CNI from changing anything" : "Let agents and CNI go on",
  usage: "",
  flags: [],
  async run(call) {
    const resources = await call.resources();
    const info = await resources.get<ClusterInformation>("ClusterInformation", "default");
    await resources.update({ ...info, spec: { ...info.spec, datastoreReady: word === "unlock" } });
    call.surroundings.out(`Datastore ${word}ed.\n`);
    return 0;
  },
});

/** `datastore migrate lock`: sets ClusterInformation.datastoreReady to false. */
export const lock = toggle("lock");
/** `datastore migrate unlock`: sets it to true. */
export const unlock = toggle("unlock");

/** `datastore migrate export`: everything, as text for a new datastore. */
export const migrateExport: Command = {
  words: ["datastore", "migrate", "export"],
  summary: "Print all objects and IPAM's records, for a Kubernetes datastore; the datastore must be locked",
  usage: "",
  flags: [],
  async run(call) {
    const resources = await call.resources();
    const { spec } = await resources.get<ClusterInformation>("ClusterInformation", "default");
    if (spec.datastoreReady !== false) {
      const todo = "Run the `calicoctl datastore migrate lock` command in order to begin migration";
      throw badInput(`datastore is not locked. ${todo}`);
    }
    const { exportText } = await import("../export.ts");
    call.surroundings.out(await exportText(resources));
    return 0;
  },
};

/** `datastore migrate import`: refused, as it writes to a Kubernetes datastore. */
export const migrateImport: Command = {
  words: ["datastore", "migrate", "import"],
  summary: "Refused: it writes to a Kubernetes datastore, which needs the calicoctl of Calico",
  usage: "-f FILE",
  flags: [{ name: "filename", short: "f", value: "FILE", help: "what datastore migrate export printed" }],
  anyVersion: true,
  run() {
    const what =
      "invalid datastore type: etcdv3 to import to for datastore migration. Datastore type must be kubernetes";
    throw badInput(what);
  },
};
