import { Capture } from "../lab/capture.ts";
import type { Story } from "./story.ts";
import { reachability } from "./traffic.ts";
import type { World } from "./world.ts";

/** What the wire of h1 shows while all pods talk: outer packets of the tunnel, and nothing of a pod in clear. */
export async function overlay(story: Story, world: World): Promise<void> {
  story.step("the wire between the hosts while all pods talk");
  const addresses = new Set(world.pods.flatMap((pod) => pod.addresses));
  using wire = new Capture(world.lab.wire.path, world.lab.hosts[0]!.name);
  await reachability(world.pods);
  const seen = wire.take();
  const inside = seen.filter((p) => p.vxlan && p.inner && addresses.has(p.inner.to));
  const clear = seen.filter((p) => addresses.has(p.from) || addresses.has(p.to));
  for (const { from, to, vxlan, inner } of inside.slice(0, 3)) {
    story.say(`${from} > ${to}  VXLAN ${vxlan!.vni}  { ${inner!.from} > ${inner!.to} }`);
  }
  story.check("pods' packets travel in VXLAN", inside.length > 0, `${inside.length} packets`);
  story.check("none of them is on the wire in clear", clear.length === 0, `${clear.length} packets`);
  const birds = await Promise.all(world.lab.hosts.map((h) => h.run("pidof", ["bird"])));
  story.check("no host runs BIRD", birds.every(({ code }) => code !== 0));
}
