import { namespace } from "../lab/cluster.ts";
import { wait } from "../lab/wait.ts";
import type { Story } from "./story.ts";
import { type Reach, reachability, reachTable, reachText } from "./traffic.ts";
import { roleOf, type World } from "./world.ts";

/** As an operator writes it: nobody is called, but API servers by the front, and databases by API servers, by HTTP alone. */
const policies = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: nobody, namespace: ${namespace}}
spec:
  order: 1000
  types: [Ingress]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: api-from-front, namespace: ${namespace}}
spec:
  order: 10
  selector: role == 'api'
  types: [Ingress]
  ingress:
  - {action: Allow, source: {selector: role == 'front'}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: db-from-api, namespace: ${namespace}}
spec:
  order: 10
  selector: role == 'db'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: role == 'api'}, destination: {ports: [80]}}
`.trimStart();

/** What they mean, in other words than theirs. */
function allowed(from: string, to: string): string {
  if (from === "front" && to === "api") return "ping+http";
  return from === "api" && to === "db" ? "http" : "-";
}

/** Three policies are applied by `tortie ctl`; every pair is tried before, with them, and after they are deleted. */
export async function policyMatrix(story: Story, world: World): Promise<void> {
  story.step("three policies: front may call api, api may call db by HTTP, nothing else");
  const file = `${world.lab.dir}/h1/policies.yaml`, node = world.nodes[0]!;
  const role = new Map(world.pods.map((p, i) => [p.name, roleOf(i)]));
  const title = (pod: string) => `${pod} ${role.get(pod)}`;
  await Deno.writeTextFile(file, policies);
  const before = await reaches(world, () => "ping+http");
  story.say(`\nwho reaches whom, before:\n${reachTable(before, title)}`);
  check(story, "without policies every pair talks", before, () => "ping+http");
  story.show("cat policies.yaml", policies);
  story.show("tortie ctl apply -f policies.yaml", await node.ctl("apply", "-f", file));
  const meant = (r: Reach) => allowed(role.get(r.from)!, role.get(r.to)!);
  const during = await reaches(world, meant);
  story.say(`\nwho reaches whom, with the policies:\n${reachTable(during, title)}`);
  const open = during.filter((r) => meant(r) !== "-").length;
  check(story, `${open} ordered pairs talk as the policies say, ${during.length - open} do not`, during, meant);
  story.show("tortie ctl delete -f policies.yaml", await node.ctl("delete", "-f", file));
  check(story, "without them everything passes again", await reaches(world, () => "ping+http"), () => "ping+http");
}

/** Tries until all is as it is meant, or for some seconds; answers what was seen last. */
async function reaches(world: World, meant: (r: Reach) => string): Promise<Reach[]> {
  let seen: Reach[] = [];
  await wait("the policies to hold", async () => {
    seen = await reachability(world.pods);
    return seen.every((r) => reachText(r) === meant(r));
  }, { deadlineMs: 6000, everyMs: 100 }).catch(() => {}); // what is otherwise is said by the check
  return seen;
}

function check(story: Story, what: string, seen: Reach[], meant: (r: Reach) => string): void {
  const wrong = seen.filter((r) => reachText(r) !== meant(r));
  const told = wrong.map((r) => `${r.from} -> ${r.to}: ${reachText(r)}, not ${meant(r)}`).join(", ");
  story.check(what, wrong.length === 0, told);
}
