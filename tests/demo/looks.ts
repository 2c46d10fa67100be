import { runOk } from "../../lib/process.ts";
import type { Story } from "./story.ts";
import type { World } from "./world.ts";

/** Where BIRD of a host answers. */
export const birdSocket = "/run/tortie/bird.ctl";

/** Shows the world as an operator would look at it: endpoints, addresses, BGP, routes. */
export async function look(story: Story, world: World): Promise<void> {
  const [host, node] = [world.lab.hosts[0]!, world.nodes[0]!];
  story.step("as an operator looks at it");
  story.show("tortie ctl get nodes -o wide", await node.ctl("get", "nodes", "-o", "wide"));
  story.show("tortie ctl get workloadendpoints -A", await node.ctl("get", "workloadendpoints", "-A"));
  story.show("tortie ctl ipam show --show-blocks", await node.ctl("ipam", "show", "--show-blocks"));
  story.show(`tortie ctl node status    (on ${host.name})`, await node.ctl("node", "status"));
  if (world.mode === "vxlan") {
    const tunnel = "ip -d link show vxlan.calico; bridge fdb show dev vxlan.calico; ip neigh show dev vxlan.calico";
    story.show(`the tunnel's device       (on ${host.name})`, await host.runOk("sh", ["-c", tunnel]));
    story.show(`ip route                  (on ${host.name})`, (await host.runOk("ip", ["route"])).trimEnd());
    return;
  }
  const protocols = await host.runOk("birdc", ["-r", "-s", birdSocket, "show", "protocols"]);
  story.show(
    `birdc show protocols      (on ${host.name})`,
    protocols.split("\n").filter((l) => /BGP|Name/.test(l)).join("\n"),
  );
  story.show(`ip route                  (on ${host.name})`, (await host.runOk("ip", ["route"])).trimEnd());
}

/** Pid of a host's BIRD and the names of its BGP sessions that are not up; undefined when BIRD does not answer. */
export async function birdState(pid: number): Promise<{ bird: string; down: string[] } | undefined> {
  const inside = ["-t", String(pid), "-m", "-n", "-p"];
  try {
    const text = await runOk("nsenter", [...inside, "birdc", "-r", "-s", birdSocket, "show", "protocols"]);
    const sessions = text.split("\n").filter((line) => / BGP /.test(line));
    const bird = (await runOk("nsenter", [...inside, "cat", "/run/tortie/bird.pid"])).trim();
    return { bird, down: sessions.filter((l) => !/Established/.test(l)).map((l) => l.split(" ")[0]!) };
  } catch {
    return undefined; // not started yet
  }
}
