import { storeOptions } from "../../datastore/options.ts";
import { copyStore } from "../../datastore/copy.ts";
import { readyKey } from "../../datastore/keys.ts";
import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import { isObject, parseJson, writeJson } from "../../lib/json64.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { connectionOptions } from "../config.ts";
import { Progress } from "../progress.ts";

/** `datastore migrate copy`: from `tortie store` to etcd, or from one etcd to another. Calico has no such command. */
export const migrateCopy: Command = {
  words: ["datastore", "migrate", "copy"],
  summary: "Copy everything to another etcd; agents stop changing anything here, and go on there",
  usage: "--to ENDPOINTS | --to-config FILE",
  flags: [
    { name: "to", value: "ENDPOINTS", help: "the new etcd, such as http://10.0.0.1:2379" },
    { name: "to-config", value: "FILE", help: "how to connect to the new etcd, as for --config" },
    { name: "overwrite", help: "the new etcd is not empty: what is copied wins, other keys stay" },
  ],
  takes: 0,
  anyVersion: true,
  examples: ["datastore migrate copy --to http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const [to, file] = [flags.text("to"), flags.text("to-config")];
  if ((to === undefined) === (file === undefined)) throw badInput("say where to: --to ENDPOINTS, or --to-config FILE");
  const options = file === undefined
    ? storeOptions({ env: (name) => (name === "ETCD_ENDPOINTS" ? to : undefined) })
    : await connectionOptions(file, surroundings);
  const resources = await call.resources();
  await using target = await surroundings.openStore(options);
  const [here, there] = await Promise.all([resources.store.status(), target.status()]);
  if (here.clusterId === there.clusterId) throw badInput("the new datastore is the one that is in use");

  const info = await resources.get<ClusterInformation>("ClusterInformation", "default");
  if (info.spec.datastoreReady !== false) {
    await resources.update({ ...info, spec: { ...info.spec, datastoreReady: false } });
    surroundings.out("Datastore locked: agents here keep what they have programmed and take no new pods.\n");
  }
  using progress = new Progress(surroundings);
  const copied = await copyStore(resources.store, target, {
    ...{ last: readyKey, overwrite: flags.on("overwrite") },
    onWritten: (done, all) => progress.step(`${done} of ${all} keys are copied`),
  });
  const ready = await resources.store.get(readyKey);
  await target.txn({ compare: [], write: [{ put: readyKey, value: unlocked(ready!.value) }] });
  surroundings.out(
    `Copied ${copied.written} keys, ${copied.same} were there already. The new datastore is open, the old one stays locked.\n` +
      "Now give every node, controller and tool the new ETCD_ENDPOINTS and restart it; nothing that is programmed changes.\n" +
      "To go back instead: datastore migrate unlock, here.\n",
  );
  return 0;
}

/** The ClusterInformation as it is stored, open. */
function unlocked(value: string): string {
  const info = parseJson(value);
  const spec = isObject(info) && isObject(info.spec) ? info.spec : {};
  return writeJson({ ...(isObject(info) ? info : {}), spec: { ...spec, datastoreReady: true } });
}
