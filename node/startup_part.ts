import { isProblem, messageOf } from "../lib/problem.ts";
import { nodeNameFile } from "../lib/node_name.ts";
import { changes } from "../kernel/rtnetlink/changes.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { kernelFeatures } from "../kernel/features.ts";
import { Resources } from "../datastore/resources.ts";
import { readInterfaces, sourceAddress } from "./kernel_interfaces.ts";
import { watchAddresses } from "./address_watch.ts";
import { Writer } from "./ensure.ts";
import { kubernetesFacts } from "./kubernetes_facts.ts";
import { ensureOwnNode, kubernetesName, nodeWishes } from "./own_node.ts";
import { watchOwnNode } from "./own_node_watch.ts";
import { type Shared, untilDone } from "./parts.ts";
import { startUp } from "./startup.ts";

/**
 * Start-up in a running node, and then the watch over its addresses, until the signal. An etcd that is away is waited for,
 * so that the rest of the node (DEL, what is programmed) works meanwhile. A setting that is not understood, or an address
 * that another node has, ends the process.
 */
export async function runStartUp(shared: Shared): Promise<void> {
  const { settings, health, clock, store, node, signal } = shared;
  const log = shared.log.child("startup");
  health.register("start-up");
  using socket = RtSocket.open();
  using kubernetes = await kubernetesFacts(settings, log);
  const parts = {
    ...{ node, settings, clock, log, signal, kubernetes, random: Math.random },
    resources: new Resources(store, { clock }),
    sourceAddress: (destination: string, family: 4 | 6) => sourceAddress(socket, destination, family),
    nodenameFile: settings.get("CALICO_NODENAME_FILE") ?? nodeNameFile,
  };
  let interfaces = readInterfaces(socket);
  const result = await untilDone({ clock, log, signal }, "start-up waits for the datastore", async () => {
    try {
      interfaces = readInterfaces(socket);
      return await startUp({
        ...parts,
        store,
        interfaces,
        kernelHasIpv6: kernelFeatures().ipv6,
        folders: ["/var/run/calico", "/var/lib/calico"],
      });
    } catch (error) {
      health.report("start-up", false, messageOf(error));
      // Another node with our address does not go away by waiting.
      if (isProblem(error, "conflict")) throw new Error(messageOf(error), { cause: error });
      throw error;
    }
  });
  if (!result) return;
  health.report("start-up", true);
  if (result.created.length + result.updated.length > 0) {
    log.info("datastore prepared", { created: result.created.join(" "), updated: result.updated.join(" ") });
  }
  const addresses = watchAddresses({
    ...parts,
    decidedOn: interfaces,
    readInterfaces: () => readInterfaces(socket),
    changes: changes(signal, { of: ["link", "address"] }),
  });
  const presence = kubernetes && watchOwnNode({
    ...{ node, mirror: shared.mirror, clock, log, signal },
    isInKubernetes: () => kubernetes.hasNode(kubernetesName(parts)),
    async makeAnew() {
      const now = { ...parts, interfaces: readInterfaces(socket) };
      await ensureOwnNode(now, new Writer(now), nodeWishes(settings));
    },
  });
  await Promise.all([addresses, presence]);
}
