import { namespace } from "../lab/cluster.ts";
import { wait } from "../lab/wait.ts";
import type { Story } from "./story.ts";
import { unreachablePairs } from "./traffic.ts";
import type { World } from "./world.ts";

const policy = {
  apiVersion: "projectcalico.org/v3",
  kind: "NetworkPolicy",
  metadata: { name: "web-6-from-web-1", namespace },
  spec: {
    selector: "name == 'web-6'",
    types: ["Ingress"],
    ingress: [{ action: "Allow", source: { selector: "name == 'web-1'" } }],
  },
};

/** A policy lets only web-1 to web-6: applied by `tortie ctl`, tried with packets, deleted again. */
export async function policies(story: Story, world: World): Promise<void> {
  story.step("a policy: only web-1 may reach web-6");
  const file = `${world.lab.dir}/h1/policy.json`, node = world.nodes[0]!;
  await Deno.writeTextFile(file, JSON.stringify(policy));
  story.show("tortie ctl apply -f policy.json", await node.ctl("apply", "-f", file));
  const others = world.pods.map((p) => p.name).filter((name) => name !== "web-1" && name !== "web-6");
  const cut = others.flatMap((name) => [`ping ${name} -> web-6`, `tcp ${name} -> web-6`]).sort();
  const agrees = async (wanted: string[]) => {
    let seen: string[] = [];
    const as = await wait("the policy to hold", async () => {
      seen = (await unreachablePairs(world.pods)).sort();
      return seen.join() === wanted.join();
    }, { deadlineMs: 5000, everyMs: 100 }).then(() => true, () => false);
    return { as, seen: as ? "" : `unreachable: ${seen.join(", ")}` };
  };
  const during = await agrees(cut);
  story.check(`${cut.length} probes to web-6 are dropped, all others pass`, during.as, during.seen);
  story.show("tortie ctl delete -f policy.json", await node.ctl("delete", "-f", file));
  const after = await agrees([]);
  story.check("without it everything passes again", after.as, after.seen);
}
