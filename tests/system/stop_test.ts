/** A node that is told to stop ends, whatever it is doing: a supervisor would wait for it, and then kill it. */
import assert from "node:assert/strict";
import type { Host } from "../lab/host.ts";
import { makeOverlay } from "../lab/overlay.ts";

/** So long a stop may take: servers let what is under way go on for two seconds. */
const mostMs = 10_000;

Deno.test("a node that is told to stop at any moment of its start ends", async () => {
  await using world = await makeOverlay({ hosts: 1, prefix: "stop" });
  const [host] = world.lab.hosts as [Host], program = `${world.lab.dir}/tortie`;
  await world.nodes[0]!.process.kill("SIGTERM");
  const env = { ETCD_ENDPOINTS: world.etcd.endpoint, IP: "autodetect", CLUSTER_TYPE: "bare-metal" };
  const stuck: string[] = [];
  for (let i = 0; i < 16; i++) {
    const process = await host.start(`start-${i}`, program, ["node"], env);
    await new Promise((resolve) => setTimeout(resolve, 80 + 50 * i)); // the moment is what is tried
    process.signal("SIGTERM");
    const late = Promise.withResolvers<"late">();
    const timer = setTimeout(() => late.resolve("late"), mostMs);
    if (await Promise.race([process.ended, late.promise]) === "late") {
      stuck.push(`after ${80 + 50 * i} ms: ${process.logTail(5)}`);
      await process.kill();
    }
    clearTimeout(timer);
  }
  assert.deepEqual(stuck, []);
});
