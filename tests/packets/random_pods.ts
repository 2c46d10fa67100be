import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { type Family, parseIp } from "../../lib/ip.ts";
import { resource } from "../random_policy.ts";
import { protocols } from "./packet.ts";
import { podAddresses, type PodNetwork } from "./pod_network.ts";
import { here } from "./policy_world.ts";
import type { Probe } from "./prober.ts";

/** A pod as its author made it. */
export interface Pod {
  namespace: string;
  labels: Record<string, string>;
  /** Container ports with a name. */
  ports: { name: string; protocol: "TCP" | "UDP" | "SCTP"; port: number }[];
  serviceAccount: string;
}

/** Namespaces by name, with their labels. */
export type Namespaces = Record<string, Record<string, string>>;

/** Addresses outside that mean something: a remote pod, one in the network set, a stranger. */
export const outsideAddresses: Record<Family, readonly string[]> = {
  4: ["10.65.1.20", "203.0.113.5", "198.51.100.7"],
  6: ["fd00:65::1:20", "2001:db8:113::5", "2001:db8:51::7"],
};

/** A pod of another node, at the first of outsideAddresses. */
export const farPod: Pod = { namespace: "red", labels: { app: "x" }, ports: [], serviceAccount: "one" };

const someLabels = fc.dictionary(fc.constantFrom("app", "role"), fc.constantFrom("x", "y"), { maxKeys: 2 });

/** Any pods, `count` of them. */
export const anyPods = (count: number): fc.Arbitrary<Pod[]> =>
  fc.array(
    fc.record({
      namespace: fc.constantFrom("red", "blue"),
      labels: someLabels,
      ports: fc.subarray<Pod["ports"][number]>([
        { name: "http", protocol: "TCP", port: 8080 },
        { name: "http", protocol: "UDP", port: 8081 },
        { name: "dns", protocol: "UDP", port: 53 },
        { name: "sig", protocol: "SCTP", port: 3868 },
      ]),
      serviceAccount: fc.constantFrom("one", "two"),
    }),
    { minLength: count, maxLength: count },
  );

/** Any labels of the two namespaces. */
export const anyNamespaces: fc.Arbitrary<Namespaces> = fc.record({ red: someLabels, blue: someLabels });

/** The resources that pods and namespaces are, as the CNI plugin and kube-controllers write them. */
export function podResources(pods: readonly Pod[], namespaces: Namespaces): Resource[] {
  const endpoints = pods.map((pod, i) => endpointOf(pod, `pod${i}`, here, podAddresses(i)));
  const far = endpointOf(farPod, "far", "n2", [outsideAddresses[4][0]!, outsideAddresses[6][0]!]);
  const profiles = Object.entries(namespaces).map(([name, labels]) =>
    resource("Profile", `kns.${name}`, undefined, {
      ingress: [{ action: "Allow" }],
      egress: [{ action: "Allow" }],
      labelsToApply: { ...prefixed("pcns.", labels), "pcns.projectcalico.org/name": name },
    })
  );
  const accounts = Object.keys(namespaces).flatMap((namespace) =>
    ["one", "two"].map((name) =>
      resource("Profile", `ksa.${namespace}.${name}`, undefined, {
        labelsToApply: { "pcsa.grade": name === "one" ? "x" : "y", "pcsa.projectcalico.org/name": name },
      })
    )
  );
  return [...endpoints, far, ...profiles, ...accounts];
}

const prefixed = (prefix: string, labels: Record<string, string>) =>
  Object.fromEntries(Object.entries(labels).map(([k, v]) => [prefix + k, v]));

function endpointOf(pod: Pod, name: string, node: string, addresses: readonly string[]): Resource {
  const { namespace, serviceAccount, ports } = pod;
  return resource("WorkloadEndpoint", `${node}-k8s-${name}-eth0`, namespace, {
    node,
    orchestrator: "k8s",
    pod: name,
    endpoint: "eth0",
    interfaceName: name.replace("pod", "cali"),
    ipNetworks: addresses.map((a) => a + (a.includes(":") ? "/128" : "/32")),
    profiles: [`kns.${namespace}`, `ksa.${namespace}.${serviceAccount}`],
    ports,
    serviceAccountName: serviceAccount,
  }, {
    ...pod.labels,
    "projectcalico.org/namespace": namespace,
    "projectcalico.org/orchestrator": "k8s",
    "projectcalico.org/serviceaccount": serviceAccount,
  });
}

/** A probe before it is known which network it runs in. */
export interface ProbePlan {
  from: number;
  to: number;
  family: Family;
  /** Which of outsideAddresses the outside end of it has. */
  outside: number;
  protocol: number;
  dstPort: number;
  /** IPv4 echo or timestamp; in IPv6 always echo. */
  icmpType: number;
}

const transport = fc.oneof(
  { arbitrary: fc.tuple(fc.constant(6), fc.constantFrom(80, 443, 8080, 8081, 53, 1500)), weight: 8 },
  { arbitrary: fc.tuple(fc.constant(17), fc.constantFrom(53, 8081, 80, 8080, 1500)), weight: 6 },
  { arbitrary: fc.tuple(fc.constant(1), fc.constant(0)), weight: 2 },
  { arbitrary: fc.tuple(fc.constant(132), fc.constantFrom(3868, 80)), weight: 1 },
  { arbitrary: fc.tuple(fc.constant(136), fc.constantFrom(53, 80)), weight: 1 },
  { arbitrary: fc.tuple(fc.constantFrom(99, 4), fc.constant(0)), weight: 1 },
);

/** Probes among `pods` pods and the outside, whose number is `pods`. */
export const anyProbes = (pods: number, howMany: number): fc.Arbitrary<ProbePlan[]> =>
  fc.array(
    fc.record({
      from: fc.nat(pods),
      to: fc.nat(pods),
      family: fc.constantFrom<Family>(4, 6),
      outside: fc.nat(2),
      transport,
      icmpType: fc.constantFrom(8, 8, 13),
    }).map(({ transport: [protocol, dstPort], ...plan }) => ({ ...plan, protocol, dstPort })),
    { minLength: howMany, maxLength: howMany },
  );

/** First source port of a batch; each probe has its own, so that each is a flow of its own. */
export const firstSourcePort = 30000;

/** The probes in a network. Those to oneself are left out, and those that would belong to a flow that an earlier one began. */
export function probesIn(net: PodNetwork, plans: readonly ProbePlan[]): Probe[] {
  const ends = [...net.pods, net.outside];
  const portless = new Set<string>();
  const probes: Probe[] = [];
  for (const [i, plan] of plans.entries()) {
    if (plan.from === plan.to) continue;
    const { family } = plan, from = ends[plan.from]!, to = ends[plan.to]!;
    const address = (end: typeof from) =>
      end === net.outside ? parseIp(outsideAddresses[family][plan.outside]!) : end.home[family]!;
    const protocol = plan.protocol === protocols.icmp && family === 6 ? protocols.icmpv6 : plan.protocol;
    if (protocol === 99 || protocol === 4) {
      // Beyond NAT all pods have one address.
      const ways = from === net.outside || to === net.outside ? plan.outside : [plan.from, plan.to].sort().join("-");
      const flow = `${protocol} ${family} ${ways}`;
      if (portless.has(flow)) continue;
      portless.add(flow);
    }
    const isIcmp = protocol === protocols.icmp || protocol === protocols.icmpv6;
    const icmp = isIcmp ? { type: family === 6 ? 128 : plan.icmpType, code: 0 } : undefined;
    // The evaluator knows no ports where the protocol has none; an ICMP identifier is none.
    const srcPort = protocol === 99 || protocol === 4 ? 0 : firstSourcePort + i;
    probes.push({
      from,
      to,
      frame: { src: address(from), dst: address(to), protocol, srcPort, dstPort: plan.dstPort, icmp },
    });
  }
  return probes;
}
