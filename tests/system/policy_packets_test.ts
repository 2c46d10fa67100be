import assert from "node:assert/strict";
import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { formatIp } from "../../lib/ip.ts";
import { allowedByKubernetes, anyKubernetesPolicies, attemptText, converted } from "../packets/kubernetes_policies.ts";
import type { Variant } from "../packets/loader.ts";
import { PolicyWorld } from "../packets/policy_world.ts";
import type { Probe } from "../packets/prober.ts";
import { anyPolicies, anyRule, anyStrangeRule } from "../packets/random_policies.ts";
import {
  anyNamespaces,
  anyPods,
  anyProbes,
  farPod,
  outsideAddresses,
  type Pod,
  podResources,
  type ProbePlan,
  probesIn,
} from "../packets/random_pods.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const podCount = 4, probeCount = 40;
const seed = Number(Deno.env.get("SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1);

/** What a run of many worlds counted, for the line that it prints. */
class Tally {
  worlds = 0;
  packets = 0;
  delivered = 0;
  toString = () =>
    `${this.worlds} worlds, ${this.packets} packets sent, ${this.delivered} of them delivered as they should (SEED=${seed})`;
}

/** Puts the resources in force and compares every probe's fate with what the evaluator says. */
async function agrees(
  world: PolicyWorld,
  resources: readonly Resource[],
  plans: readonly ProbePlan[],
  tally: Tally,
): Promise<void> {
  await world.put(resources);
  const probes = probesIn(world.net, plans);
  const expected = probes.map((p) => world.expected(p));
  assert.deepEqual(await world.check(probes, expected), []);
  tally.worlds++;
  tally.packets += probes.length;
  tally.delivered += expected.filter((e) => e.delivered).length;
}

const policyRuns: [string, Variant, number, fc.Arbitrary<object>][] = [
  ["any policies", "legacy", 120, anyRule],
  ["any policies", "nft", 30, anyRule],
  ["rules that the API refuses", "legacy", 40, anyStrangeRule],
];
for (const [what, variant, numRuns, rule] of policyRuns) {
  Deno.test(`${variant}: with ${what}, packets between pods and outside fare as the evaluator says`, async () => {
    await using router = await enterOwnNetns("h10");
    await using world = await PolicyWorld.make(router, podCount, variant);
    const tally = new Tally();
    const parts = [anyPods(podCount), anyNamespaces, anyPolicies(rule), anyProbes(podCount, probeCount)] as const;
    await fc.assert(
      fc.asyncProperty(
        ...parts,
        (pods, spaces, policies, plans) => agrees(world, [...podResources(pods, spaces), ...policies], plans, tally),
      ),
      { numRuns, seed },
    );
    console.log(`${variant}, ${what}: ${tally}`);
  });
}

Deno.test("with any Kubernetes policies, packets fare as Kubernetes' documentation says, and the evaluator too", async () => {
  await using router = await enterOwnNetns("h10");
  await using world = await PolicyWorld.make(router, podCount, "legacy");
  const tally = new Tally();
  const parts = [anyPods(podCount), anyNamespaces, anyKubernetesPolicies, anyProbes(podCount, probeCount)] as const;
  await fc.assert(
    fc.asyncProperty(...parts, async (pods, namespaces, policies, plans) => {
      const resources = [...podResources(pods, namespaces), ...policies.map(converted)];
      // Kubernetes does not speak of tunnelled packets; what policy says of them is another test's.
      const own = plans.filter((p) => p.protocol !== 4);
      await agrees(world, resources, own, tally);
      for (const probe of probesIn(world.net, own)) {
        const attempt = attemptOf(world, pods, probe);
        const says = allowedByKubernetes(policies, namespaces, attempt);
        assert.equal(world.expected(probe).delivered, says, `${attemptText(attempt)}: Kubernetes says ${says}`);
      }
    }),
    { numRuns: 80, seed },
  );
  console.log(`legacy, Kubernetes policies: ${tally}`);
});

function attemptOf(world: PolicyWorld, pods: readonly Pod[], { from, to, frame }: Probe) {
  const place = (end: Probe["from"], address: Probe["frame"]["src"]) => {
    if (end !== world.net.outside) return { pod: pods[world.net.pods.indexOf(end)], address };
    const isFar = outsideAddresses[address.v][0] === formatIp(address);
    return isFar ? { pod: farPod, elsewhere: true, address } : { address };
  };
  return { from: place(from, frame.src), to: place(to, frame.dst), protocol: frame.protocol, port: frame.dstPort };
}
