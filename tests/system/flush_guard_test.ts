import assert from "node:assert/strict";
import { ownPrefixes } from "../../agent/netfilter/names.ts";
import type { Variant } from "../../kernel/netfilter/chain.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { wait } from "../lab/wait.ts";

const named = { creationTimestamp: "2026-01-02T03:04:05Z", uid: "5cd9e1c6-0000-4000-8000-000000000001" };

/** Asks for the guard, or for none, as Calico's clients keep it: by an annotation. */
const ask = (world: AgentWorld, guard: boolean) => {
  const annotations = { "config.projectcalico.org/TortieFlushGuard": String(guard) };
  return world.put({ kind: "FelixConfiguration", metadata: { name: "default", ...named, annotations }, spec: {} });
};

for (const variant of ["legacy", "nft"] as const satisfies Variant[]) {
  Deno.test(`${variant}: the guard behind filter comes with a start, goes at once, and none is left by one that has none`, async () => {
    await using world = await makeAgentWorld("kl");
    await putCluster(world, "alder", []);
    const env = { FELIX_IPTABLESBACKEND: variant };
    const guards = async () => {
      const found: string[] = [];
      for (const program of [`iptables-${variant}-save`, `ip6tables-${variant}-save`]) {
        const { stdout } = await world.host.run(program, ["-t", "security"]);
        found.push(...stdout.split("\n").filter((line) => ownPrefixes.some((p) => line.includes(`A ${p}`))));
      }
      return found.length;
    };
    const refused = async () => {
      const { body } = await world.get("/v1/status");
      return JSON.stringify(body).includes("TortieFlushGuard");
    };
    await ask(world, true);
    await world.start({ env });
    await wait("the guard of both families", async () => await guards() > 8);
    await ask(world, false);
    await wait("it to go", async () => await guards() === 0);
    await world.stop();
    await world.start({ env });
    await ask(world, true);
    await wait("it to be told that this takes a start", refused);
    assert.equal(await guards(), 0);
    await world.stop("SIGKILL");
    await world.start({ env });
    await wait("the guard", async () => await guards() > 8);
    assert.equal(await refused(), false);
    await world.stop("SIGKILL");
    await ask(world, false);
    await world.start({ env });
    await wait("what an earlier process left to go", async () => await guards() === 0);
  });
}
