import assert from "node:assert/strict";
import { storedPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import { formatIp, parseIp } from "../../lib/ip.ts";
import { AgentNetwork } from "../packets/agent_network.ts";
import {
  attempts,
  attemptsAt,
  type Combination,
  combinations,
  labelsAt,
  policyOf,
} from "../packets/kubernetes_matrix.ts";
import { allowedByKubernetes, attemptText, type Place } from "../packets/kubernetes_semantics.ts";
import { type End, type Observation, type Probe, Prober } from "../packets/prober.ts";

/** Every how many-th combination is tried. All are with KUBERNETES_POLICIES=all. */
const step = Deno.env.get("KUBERNETES_POLICIES") === "all" ? 1 : 5;
/** How many attempts are made between two places; every second one at a port that the policy is about. */
const attemptsEach = 4;
const strangers = { 4: ["203.0.113.5", "198.51.100.7", "198.51.100.130"], 6: ["2001:db8:113::5", "2001:db8:51::7"] };

interface Round {
  network: AgentNetwork;
  prober: Prober;
  number: number;
  /** One for each pod. */
  combinations: Combination[];
}

/** Puts a policy on each pod, and compares the fate of packets from and to it with the documentation. */
async function play({ network, prober, number, combinations }: Round): Promise<{ probes: number; allowed: number }> {
  const { pods, namespaces } = labelsAt(number);
  const policies = combinations.map((c, i) => policyOf(c, pods[i]!));
  await network.put(policies.map((p) => storedPolicyOf(p).policy), pods, namespaces);
  const place = (end: End, address: string): Place => ({ pod: pods[network.pods.indexOf(end)], address });
  const planned = combinations.flatMap((c, i) => probesOf(network, c, i, number));
  const expected = planned.map(({ from, to, frame }) => {
    const [source, target] = [place(from, formatIp(frame.src)), place(to, formatIp(frame.dst))];
    const attempt = { from: source, to: target, protocol: frame.protocol, port: frame.dstPort };
    return { attempt, allowed: allowedByKubernetes(policies, namespaces, attempt) };
  });
  const isRight = (o: Observation, i: number) => {
    const arrived = o.at.join() === planned[i]!.to.name;
    // Nobody listens: what arrives is answered with a refusal, and the refusal must come back.
    return expected[i]!.allowed ? arrived && o.answer !== "none" : o.at.length === 0;
  };
  const look = () => prober.measure(planned, (all) => all.every(isRight), 1000);
  // Sets get what they allow after the rules have changed, so what is allowed may begin a moment late. What is denied passes
  // at no time.
  const isLate = (o: Observation, i: number) => expected[i]!.allowed && o.at.length === 0;
  let observed = await look();
  for (
    let left = 3;
    left > 0 && observed.some(isLate) && observed.every((o, i) => isRight(o, i) || isLate(o, i));
    left--
  ) {
    observed = await look();
  }
  const wrong = observed.flatMap((o, i) => {
    if (isRight(o, i)) return [];
    const { attempt, allowed } = expected[i]!;
    return [
      `${attemptText(attempt)}: documentation says ${allowed}, came out at [${o.at}], answer ${o.answer}; ` +
      JSON.stringify(
        policies.filter((p) =>
          [attempt.from.pod, attempt.to.pod].some((q) => p.metadata.name === `of-${q?.labels.id}`)
        ),
      ),
    ];
  });
  assert.deepEqual(wrong, []);
  return { probes: planned.length, allowed: expected.filter((e) => e.allowed).length };
}

/** From all others to a pod, from it to all others, or both; ports take turns. */
function probesOf(network: AgentNetwork, combination: Combination, subject: number, round: number): Probe[] {
  const { direction } = combination, aimed = attemptsAt(combination);
  const self = network.pods[subject]!, probes: Probe[] = [];
  for (const family of [4, 6] as const) {
    const others = [
      ...network.pods.filter((p) => p !== self).map((end) => ({ end, ip: end.home[family]! })),
      ...strangers[family].map((text) => ({ end: network.outside, ip: parseIp(text) })),
    ];
    for (const [k, { end, ip }] of others.entries()) {
      for (let n = 0; n < attemptsEach; n++) {
        const choice = n % 2 === 0 && aimed.length > 0 ? aimed : attempts;
        const [protocol, dstPort] = choice[(round + 3 * k + 4 * n + family) % choice.length]!;
        const isOut = direction === "Egress" || direction === "both" && n < 2;
        const own = { end: self, ip: self.home[family]! }, other = { end, ip };
        const [from, to] = isOut ? [own, other] : [other, own];
        // Each is a flow of its own.
        const srcPort = 20000 + subject * 2000 + family * 200 + k * 10 + n;
        probes.push({ from: from.end, to: to.end, frame: { src: from.ip, dst: to.ip, protocol, srcPort, dstPort } });
      }
    }
  }
  return probes;
}

Deno.test("Kubernetes policies, enforced by the agent, mean what the documentation says, in all combinations", async () => {
  await using network = await AgentNetwork.make("tk", labelsAt(0).pods);
  const prober = new Prober([...network.pods, network.outside]);
  const chosen = combinations.filter((_, i) => i % step === 0), count = network.pods.length;
  let probes = 0, allowed = 0, number = 0;
  for (const direction of ["Ingress", "Egress", "both"] as const) {
    const all = chosen.filter((c) => c.direction === direction);
    for (let i = 0; i < all.length; i += count) {
      const seen = await play({ network, prober, number: number++, combinations: all.slice(i, i + count) });
      probes += seen.probes;
      allowed += seen.allowed;
    }
  }
  console.log(
    `${chosen.length} of ${combinations.length} combinations of peers, ports and directions, ${number} changes of ` +
      `policies and labels, ${probes} packets, ${allowed} of them let through as they should`,
  );
  assert.ok(allowed > probes / 10 && allowed < probes * 9 / 10, `${allowed} of ${probes}`);
});
