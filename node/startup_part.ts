import { isProblem, messageOf } from "../lib/problem.ts";
import { nodeNameFile } from "../lib/node_name.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { kernelFeatures } from "../kernel/features.ts";
import { Resources } from "../datastore/resources.ts";
import { readInterfaces, sourceAddress } from "./kernel_interfaces.ts";
import { kubernetesFacts } from "./kubernetes_facts.ts";
import { type Shared, untilDone } from "./node.ts";
import { startUp } from "./startup.ts";

/**
 * Start-up in a running node: an etcd that is away is waited for, so that the rest of the node (DEL, what is programmed)
 * works meanwhile. A setting that is not understood, or an address that another node has, ends the process.
 */
export async function runStartUp(shared: Shared): Promise<void> {
  const { settings, health, clock, store, node, signal } = shared;
  const log = shared.log.child("startup");
  health.register("start-up");
  using socket = RtSocket.open();
  using kubernetes = await kubernetesFacts(settings, log);
  const result = await untilDone({ clock, log, signal }, "start-up waits for the datastore", async () => {
    try {
      return await startUp({
        ...{ node, store, settings, clock, log, signal, random: Math.random },
        resources: new Resources(store, { clock }),
        interfaces: readInterfaces(socket),
        kubernetes,
        sourceAddress: (destination, family) => sourceAddress(socket, destination, family),
        kernelHasIpv6: kernelFeatures().ipv6,
        nodenameFile: settings.get("CALICO_NODENAME_FILE") ?? nodeNameFile,
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
}
