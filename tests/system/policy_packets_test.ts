import assert from "node:assert/strict";
import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { storedPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import { formatIp, parseIp } from "../../lib/ip.ts";
import { anyKubernetesPolicies } from "../packets/kubernetes_policies.ts";
import { allowedByKubernetes, attemptText } from "../packets/kubernetes_semantics.ts";
import type { Variant } from "../packets/loader.ts";
import type { Frame } from "../packets/packet.ts";
import { type Expected, PolicyWorld } from "../packets/policy_world.ts";
import { type Probe, shown } from "../packets/prober.ts";
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
import { resource } from "../random_policy.ts";
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
      const resources = [...podResources(pods, namespaces), ...policies.map((p) => storedPolicyOf(p).policy)];
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
  const place = (end: Probe["from"], ip: Probe["frame"]["src"]) => {
    const address = formatIp(ip);
    if (end !== world.net.outside) return { pod: pods[world.net.pods.indexOf(end)], address };
    return outsideAddresses[ip.v][0] === address ? { pod: farPod, elsewhere: true, address } : { address };
  };
  return { from: place(from, frame.src), to: place(to, frame.dst), protocol: frame.protocol, port: frame.dstPort };
}

/** `pod0 > pod1 tcp 80`: from, to, protocol and port or ICMP type; in both families unless it says which. */
function probe(world: PolicyWorld, words: string): Probe[] {
  const [a, , b, what, number, only] = words.split(" ");
  const { pods, outside, host } = world.net;
  const end = (name: string) => [...pods, outside, host].find((e) => e.name === name)!;
  const from = end(a!), to = end(b!);
  return ([4, 6] as const).filter((v) => only === undefined || only === `v${v}`).map((v) => {
    const protocol = { tcp: 6, udp: 17, icmp: v === 4 ? 1 : 58, other: 99 }[what!]!;
    const icmp = what === "icmp" ? { type: Number(number), code: 0 } : undefined;
    const ports = { srcPort: what === "other" ? 0 : nextPort++, dstPort: icmp ? 0 : Number(number ?? 0) };
    return { from, to, frame: { src: from.home[v]!, dst: to.home[v]!, protocol, ...ports, icmp } };
  });
}
let nextPort = 40000;

const plainPods: Pod[] = ["red", "red", "red", "blue"].map((namespace, i) => ({
  namespace,
  labels: { app: `${i}` },
  ports: [{ name: "http", protocol: "TCP", port: 8080 }],
  serviceAccount: "one",
}));
const gnp = (name: string, spec: object, kind = "GlobalNetworkPolicy") =>
  resource(kind, name, undefined, { tier: "default", types: ["Ingress"], ...spec });
const tier = (name: string, order: number, defaultAction = "Deny") =>
  resource("Tier", name, undefined, { order, defaultAction });
const profile = (name: string, ingress: object[]) =>
  resource("Profile", name, undefined, { ingress, egress: [{ action: "Allow" }] });
const allow = { action: "Allow" }, deny = { action: "Deny" };
const tcpTo = (...ports: (number | string)[]) => ({ protocol: "TCP", destination: { ports } });
const sixteen = Array.from({ length: 16 }, (_, i) => 70 + i);

/** What stands beside the pods, and which packets then arrive and do not. */
const situations: Record<string, { resources: Resource[]; profiles?: string[]; arrive: string[]; not: string[] }> = {
  "Pass goes on with the next tier, whose end denies": {
    resources: [
      tier("first", 1),
      gnp("a", {
        tier: "first",
        selector: "app == '0'",
        ingress: [{ action: "Pass", ...tcpTo("79:81") }, { ...allow, protocol: "UDP" }],
      }),
      gnp("b", { selector: "app == '0'", ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: ["pod1 > pod0 tcp 80", "pod1 > pod0 udp 9", "outside > pod0 tcp 80", "pod0 > pod1 tcp 9"],
    not: ["pod1 > pod0 tcp 81", "pod1 > pod0 tcp 82", "outside > pod0 icmp 8 v4", "outside > pod0 icmp 128 v6"],
  },
  "a tier that ends in Pass leaves the rest to the profiles": {
    resources: [
      tier("passing", 1, "Pass"),
      gnp("a", { tier: "passing", selector: "all()", ingress: [{ ...deny, ...tcpTo(80) }] }),
    ],
    arrive: ["pod1 > pod0 tcp 81", "outside > pod3 udp 80"],
    not: ["pod1 > pod0 tcp 80", "outside > pod3 tcp 80"],
  },
  "staged policies decide nothing, also when a tier has no others": {
    resources: [
      gnp("a", { selector: "all()", ingress: [deny] }, "StagedGlobalNetworkPolicy"),
      resource("StagedNetworkPolicy", "b", "red", { tier: "default", types: ["Egress"], egress: [deny] }),
    ],
    arrive: ["pod1 > pod0 tcp 80", "pod1 > outside udp 80", "outside > pod3 tcp 80"],
    not: [],
  },
  "Log goes on": {
    resources: [
      gnp("a", {
        selector: "app == '0'",
        ingress: [{ action: "Log" }, { ...allow, ...tcpTo(80) }, { action: "Log", protocol: "UDP" }],
      }),
    ],
    arrive: ["pod1 > pod0 tcp 80"],
    not: ["pod1 > pod0 udp 80", "pod1 > pod0 tcp 81"],
  },
  "notPorts: numbers, ranges, names, and more than fifteen": {
    resources: [
      gnp("a", {
        selector: "app == '0'",
        ingress: [{ ...allow, protocol: "TCP", destination: { notPorts: [22, "80:90", "http"] } }],
      }),
      gnp("b", {
        selector: "app == '1'",
        ingress: [{ ...deny, protocol: "TCP", destination: { notPorts: [...sixteen, 9] } }, allow],
      }),
    ],
    arrive: [
      "pod1 > pod0 tcp 91",
      "pod1 > pod0 tcp 79",
      "pod0 > pod1 tcp 85",
      "pod0 > pod1 tcp 9",
      "pod0 > pod1 udp 8",
    ],
    not: [
      "pod1 > pod0 tcp 22",
      "pod1 > pod0 tcp 90",
      "pod1 > pod0 tcp 8080",
      "pod0 > pod1 tcp 86",
      "pod0 > pod1 tcp 69",
    ],
  },
  // Felix lets the second one pass: its third list of alternatives is held against the result of the second.
  "ports, sources and destinations, each a list too long for one line, must all hold": {
    resources: [
      gnp("a", {
        selector: "app == '0'",
        types: ["Egress"],
        egress: [4, 6].map((v) => ({
          ...allow,
          protocol: "TCP",
          source: { nets: v === 4 ? ["10.65.0.10/32", "10.65.0.99/32"] : ["fd00:65::10/128", "fd00:65::99/128"] },
          destination: {
            ports: sixteen,
            nets: v === 4 ? ["10.65.0.11/32", "10.65.0.12/32"] : ["fd00:65::11/128", "fd00:65::12/128"],
          },
        })),
      }),
    ],
    arrive: ["pod0 > pod1 tcp 70", "pod0 > pod2 tcp 85", "pod1 > pod3 tcp 70"],
    not: ["pod0 > pod3 tcp 70", "pod0 > outside tcp 85", "pod0 > pod1 tcp 86", "pod0 > pod2 udp 70"],
  },
  "ICMP by type and code": {
    resources: [
      gnp("a", {
        selector: "app == '0'",
        ingress: [
          { ...allow, protocol: "ICMP", icmp: { type: 8, code: 0 } },
          { ...allow, protocol: "ICMPv6", icmp: { type: 128 } },
        ],
      }),
      gnp("b", { selector: "app == '1'", ingress: [{ ...allow, protocol: "ICMP", notICMP: { type: 8 } }] }),
    ],
    arrive: ["pod1 > pod0 icmp 8 v4", "pod1 > pod0 icmp 128 v6", "pod0 > pod1 icmp 13 v4"],
    not: ["pod1 > pod0 icmp 13 v4", "pod1 > pod0 tcp 80", "pod0 > pod1 icmp 8 v4", "pod0 > pod1 icmp 128 v6"],
  },
  "profiles alone, in their order": {
    resources: [
      profile("one", [{ ...deny, ...tcpTo(80) }, { ...allow, ...tcpTo(81) }]),
      profile("two", [{ ...allow, protocol: "TCP" }]),
    ],
    profiles: ["one", "two"],
    arrive: ["pod1 > pod0 tcp 81", "pod1 > pod0 tcp 82"],
    not: ["pod1 > pod0 tcp 80", "pod1 > pod0 udp 81", "pod1 > pod0 other"],
  },
  "a profile that does not exist denies what reaches it": {
    resources: [profile("one", [{ ...allow, ...tcpTo(80) }])],
    profiles: ["one", "nowhere"],
    arrive: ["pod1 > pod0 tcp 80", "pod0 > outside udp 9"],
    not: ["pod1 > pod0 tcp 81", "outside > pod0 udp 80"],
  },
  "an endpoint without profiles is closed": {
    resources: [],
    profiles: [],
    arrive: ["host > pod0 tcp 80"],
    not: ["pod1 > pod0 tcp 80", "pod0 > outside udp 80", "outside > pod0 tcp 80"],
  },
  "policies of a tier that does not exist apply after the others and end in Deny": {
    resources: [
      gnp("a", { tier: "gone", selector: "app == '0'", ingress: [{ ...allow, ...tcpTo(80) }] }),
      gnp("b", { selector: "app == '0'", ingress: [{ action: "Pass", ...tcpTo("79:81") }, { ...allow, ...tcpTo(9) }] }),
    ],
    arrive: ["pod1 > pod0 tcp 80", "pod1 > pod0 tcp 9"],
    not: ["pod1 > pod0 tcp 81", "pod1 > pod0 tcp 82"],
  },
  "the host reaches its pods whatever policy says; pods do not reach the host": {
    resources: [
      gnp("a", {
        selector: "app == '0'",
        types: ["Ingress", "Egress"],
        ingress: [deny],
        egress: [{ ...allow, ...tcpTo(80) }],
      }),
    ],
    arrive: ["host > pod0 tcp 80", "host > pod0 udp 53"],
    not: ["pod0 > host tcp 80", "pod0 > host tcp 81", "pod1 > host udp 53", "pod1 > pod0 tcp 80"],
  },
};

Deno.test("policy in named situations", async (t) => {
  await using router = await enterOwnNetns("h10");
  await using world = await PolicyWorld.make(router, podCount, "legacy");
  const base = podResources(plainPods, { red: {}, blue: {} });
  for (const [name, { resources, profiles, arrive, not }] of Object.entries(situations)) {
    await t.step(name, async () => {
      const pods = base.map((r) =>
        r.kind === "WorkloadEndpoint" && profiles ? { ...r, spec: { ...r.spec as object, profiles } } : r
      );
      await world.put([...pods, tier("default", 1_000_000), ...resources]);
      const probes: Probe[] = [], expected: Expected[] = [];
      for (const [list, delivered] of [[arrive, true], [not, false]] as const) {
        for (const p of list.flatMap((words) => probe(world, words))) {
          probes.push(p);
          expected.push({ delivered, why: "the test says so" });
          // Traffic of the host itself is no workload policy's matter.
          if (p.from.name !== "host" && p.to.name !== "host") {
            assert.equal(world.expected(p).delivered, delivered, `evaluator, of ${shown(p.frame)}`);
          }
        }
      }
      assert.deepEqual(await world.check(probes, expected), []);
    });
  }
});

Deno.test("spoofed packets are dropped, outgoing ones of pools get the host's address, tunnelled ones stay inside", async () => {
  await using router = await enterOwnNetns("h10");
  await using world = await PolicyWorld.make(router, podCount, "legacy");
  await world.put(podResources(plainPods, { red: {}, blue: {} }));
  const why = "the test says so";
  const all: [Probe, Expected][] = [];
  const add = (words: string, expected: Omit<Expected, "why">, change: Partial<Frame> = {}) => {
    for (const p of probe(world, words)) {
      all.push([{ ...p, frame: { ...p.frame, ...change } }, { ...expected, why }]);
    }
  };
  add("pod0 > outside tcp 80 v4", { delivered: true, source: "192.0.2.1", answer: "reset" });
  add("pod0 > outside tcp 80 v6", { delivered: true, source: "fd00:65::10" });
  add("pod0 > pod1 tcp 80 v4", { delivered: true, source: "10.65.0.10" });
  add("pod0 > outside udp 80 v4", { delivered: true, source: "10.65.0.10" }, { dst: parseIp(outsideAddresses[4][0]!) });
  add("pod0 > pod1 tcp 81 v4", { delivered: false }, { src: parseIp("10.65.0.12") });
  add("pod0 > pod1 tcp 81 v6", { delivered: false }, { src: parseIp("fd00:65::12") });
  add("pod0 > outside udp 81 v4", { delivered: false }, { src: parseIp("198.51.100.9") });
  add("pod0 > outside udp 4789", { delivered: false });
  add("outside > pod0 udp 4789", { delivered: true });
  add("pod0 > pod1 other", { delivered: false }, { protocol: 4 });
  assert.deepEqual(await world.check(all.map(([p]) => p), all.map(([, e]) => e)), []);
});

Deno.test("with deny action Reject the sender is told; with endpoint-to-host action Accept egress policy decides", async () => {
  await using router = await enterOwnNetns("h10");
  await using world = await PolicyWorld.make(router, podCount, "legacy", { deny: "reject", endpointToHost: "accept" });
  const policy = gnp("a", {
    selector: "app == '0'",
    types: ["Ingress", "Egress"],
    egress: [{ ...allow, ...tcpTo(80) }],
  });
  await world.put([...podResources(plainPods, { red: {}, blue: {} }), policy]);
  const refused = { 4: "unreachable 3", 6: "unreachable 4" };
  const probes = ["pod0 > host tcp 80", "pod1 > host tcp 81", "pod0 > host tcp 81", "pod1 > pod0 tcp 80"].flatMap((
    words,
  ) => probe(world, words));
  const expected = probes.map((p, i): Expected => {
    const delivered = i < 4;
    return { delivered, answer: delivered ? "reset" : refused[p.frame.src.v], why: "the test says so" };
  });
  assert.deepEqual(await world.check(probes, expected), []);
});

Deno.test("the comparison notices chains that deny or allow too much, and a network that is broken", async () => {
  await using router = await enterOwnNetns("h10");
  await using world = await PolicyWorld.make(router, podCount, "legacy");
  await world.put([
    ...podResources(plainPods, { red: {}, blue: {} }),
    gnp("a", { selector: "app == '0'", ingress: [{ ...allow, ...tcpTo(80) }] }),
  ]);
  const probes = ["pod1 > pod0 tcp 80 v4", "pod1 > pod0 tcp 81 v4"].flatMap((words) => probe(world, words));
  const expected = probes.map((p) => world.expected(p));
  const withChain = async (line: string) => {
    await world.loader.load(4, "filter", [{ name: "cali-pi-gnp/a", lines: [`-A cali-pi-gnp/a ${line}`] }]);
    await world.loader.forgetFlows();
    return (await world.check(probes, expected)).join("; ");
  };
  assert.equal(await withChain("-p tcp --dport 80 -j MARK --set-mark 0x10000/0x10000"), "");
  assert.match(
    await withChain("-j MARK --set-mark 0x10000/0x10000"),
    /^[^;]*> 81: came out at pod0; expected no arrival/,
  );
  assert.match(await withChain("-j DROP"), /^[^;]*> 80: did not arrive; expected to arrive/);
  await router.ip("link set cali0 down");
  await assert.rejects(world.check(probes, expected), /no sentinel arrived: pod1 -> pod0 IPv4: the network is broken/);
});
