import assert from "node:assert/strict";
import fc from "fast-check";
import { explain } from "../../agent/why/explanation.ts";
import { partiesOf, type Party, pathOf } from "../../agent/why/path.ts";
import { World } from "../../agent/why/world.ts";
import { resourceKey } from "../../datastore/keys.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { type Family, formatIp, type Ip, parseIp } from "../../lib/ip.ts";
import { PolicyWorld } from "../packets/policy_world.ts";
import type { End, Probe } from "../packets/prober.ts";
import { shown } from "../packets/prober.ts";
import { anyPolicies, anyRule } from "../packets/random_policies.ts";
import { anyNamespaces, anyPods, outsideAddresses, podResources } from "../packets/random_pods.ts";
import { resource } from "../random_policy.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const podCount = 3, probeCount = 25, worlds = 60;
const seed = Number(Deno.env.get("SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1);

const labels = fc.dictionary(fc.constantFrom("app", "role"), fc.constantFrom("x", "y"), { maxKeys: 2 });
const hostEndpoint = fc.record({
  interfaceName: fc.constantFrom("eth0", "eth0", "*"),
  profiles: fc.constantFrom<string[]>([], ["projectcalico-default-allow"], ["kns.red"], ["none"]),
  expectedIPs: fc.constantFrom<string[]>([], ["192.0.2.1", "2001:db8::1"]),
  ports: fc.constantFrom<object[]>([], [{ name: "http", protocol: "TCP", port: 8080 }]),
});
const hostEndpoints = fc.array(fc.tuple(hostEndpoint, labels), { maxLength: 2 }).map((list) =>
  list.map(([spec, labels], i) => resource("HostEndpoint", `h${i}`, undefined, { node: "n1", ...spec }, labels))
);
/** Policies that mean something for host endpoints only. */
const hostPolicies = fc.array(
  fc.record({
    way: fc.constantFrom("forward", "preDNAT", "untracked", "normal"),
    selector: fc.constantFrom("all()", "app == 'x'", "role == 'y'", "!has(app)"),
    types: fc.constantFrom(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    tier: fc.constantFrom("default", "first", "passing"),
    order: fc.constantFrom(undefined, 1, 2),
    ingress: fc.array(anyRule, { maxLength: 3 }),
    egress: fc.array(anyRule, { maxLength: 3 }),
  }),
  { maxLength: 3 },
).map((list) =>
  list.map(({ way, types, ...spec }, i) =>
    resource("GlobalNetworkPolicy", `host-${i}`, undefined, {
      ...spec,
      ...(way === "preDNAT" ? { types: ["Ingress"], egress: [] } : { types }),
      applyOnForward: way !== "normal",
      preDNAT: way === "preDNAT",
      doNotTrack: way === "untracked",
    })
  )
);
/** From and to by number (pods, then outside, then the host), version, outside's address, protocol, port. */
const plans = fc.array(
  fc.tuple(
    fc.nat(podCount + 1),
    fc.nat(podCount + 1),
    fc.constantFrom<Family>(4, 6),
    fc.nat(2),
    fc.constantFrom("tcp", "tcp", "udp", "icmp"),
    fc.constantFrom(80, 443, 8080, 53, 22, 1500, 4789, 179, 68),
  ),
  { minLength: probeCount, maxLength: probeCount },
);
type Plan = typeof plans extends fc.Arbitrary<(infer P)[]> ? P : never;

let port = 30000;
const nextPort = () => (port = port >= 60000 ? 30001 : port + 1);

function probeOf(ends: readonly End[], [a, b, family, outside, protocol, dstPort]: Plan): Probe[] {
  const from = ends[a]!, to = ends[b]!;
  const address = (end: End) =>
    end.name === "outside" ? parseIp(outsideAddresses[family][outside]!) : end.home[family]!;
  if (from === to) return [];
  const icmp = protocol === "icmp" ? { type: family === 4 ? 8 : 128, code: 0 } : undefined;
  const number = { tcp: 6, udp: 17, icmp: family === 4 ? 1 : 58 }[protocol]!;
  const frame = {
    src: address(from),
    dst: address(to),
    protocol: number,
    srcPort: nextPort(),
    dstPort: icmp ? 0 : dstPort,
    icmp,
  };
  return [{ from, to, frame }];
}

const node = resource("Node", "n1", undefined, {
  bgp: { ipv4Address: "192.0.2.1/24", ipv6Address: "2001:db8::1/64" },
  interfaces: [{ name: "eth0", addresses: ["192.0.2.1", "2001:db8::1"] }],
});
/** As a datastore has them: of two with one name the later. */
function stored(resources: readonly Resource[]): KeyValue[] {
  const keyOf = (r: Resource) => resourceKey(r.kind, r.metadata.name, r.metadata.namespace);
  return [...new Map(resources.map((r) => [keyOf(r), JSON.stringify(r)]))].map(([key, value]) =>
    ({ key, value, revision: 1n }) as KeyValue
  );
}

/** Who has an address. The far pod's node enforces nothing here: it counts as outside. */
function partyAt(world: World, address: Ip): Party {
  const [party] = partiesOf(world, formatIp(address), address);
  return party?.is === "workload" && party.endpoint.node !== "n1" ? { is: "outside", address } : party!;
}

Deno.test("what `why` predicts is what packets do, and its words name who decided", async () => {
  await using router = await enterOwnNetns("he");
  await using world = await PolicyWorld.make(router, podCount, "legacy");
  for (const program of ["iptables", "ip6tables"]) await router.runOk(`${program}-legacy`, ["-P", "FORWARD", "ACCEPT"]);
  const ends = [...world.net.pods, world.net.outside, world.net.host];
  let packets = 0, arrived = 0;
  const deciders = new Map<string, number>();
  const parts = [anyPods(podCount), anyNamespaces, anyPolicies(anyRule), hostEndpoints, hostPolicies, plans] as const;
  await fc.assert(
    fc.asyncProperty(...parts, async (pods, spaces, policies, hosts, hostOnly, plans) => {
      const resources = [...podResources(pods, spaces), ...policies, ...hosts, ...hostOnly, node];
      await world.put(resources);
      const known = new World(stored(resources));
      const probes = plans.flatMap((plan) => probeOf(ends, plan));
      const predicted = probes.map(({ frame }) => {
        const [from, to] = [frame.src, frame.dst].map((ip) => partyAt(known, ip));
        return pathOf(known, { from: from!, to: to!, family: frame.src.v, ...frame });
      });
      const wanted = predicted.map(({ verdict }, i) => (verdict === "allow" ? probes[i]!.to.name : ""));
      const seen = await world.arrivals(probes, wanted);
      for (const [i, { stages }] of predicted.entries()) {
        const last = stages.at(-1)!,
          told = `${shown(probes[i]!.frame)}: ${last.verdict} by ${
            JSON.stringify(last.decider)
          } at ${last.endpoint} ${last.at} ${last.direction}`;
        assert.equal(seen[i], wanted[i], told);
        for (const stage of stages) {
          const { decider } = stage, { policy, rule, passedOver } = explain(known, stage);
          if (decider.by === "tier") assert.ok(!passedOver.some((p) => p.policy.startsWith("Profile:")), told);
          if (decider.by === "rule") assert.deepEqual([policy, rule], [decider.policy, decider.index], told);
          else assert.equal(policy, undefined, told);
        }
        deciders.set(last.decider.by, (deciders.get(last.decider.by) ?? 0) + 1);
      }
      packets += probes.length;
      arrived += wanted.filter((w) => w !== "").length;
    }),
    { numRuns: worlds, seed },
  );
  console.log(`${worlds} worlds, ${packets} packets, ${arrived} arrived, all as predicted (SEED=${seed})`);
  console.log([...deciders].map(([by, n]) => `${by}: ${n}`).join(", "));
  assert.ok(packets > 1000, `only ${packets} packets`);
});
