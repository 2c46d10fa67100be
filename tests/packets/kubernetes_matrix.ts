import type {
  JudgedPod,
  KubernetesPolicy,
  LabelSelector,
  NamespaceLabels,
  Peer,
  PolicyPort,
} from "./kubernetes_semantics.ts";

/** Every way to say who may talk. */
const peers: Record<string, Peer[] | undefined> = {
  "no from": undefined,
  "empty from": [],
  "all pods here": [{ podSelector: {} }],
  "matchLabels": [{ podSelector: { matchLabels: { app: "x" } } }],
  "two labels": [{ podSelector: { matchLabels: { app: "x", role: "y" } } }],
  "In": [{ podSelector: { matchExpressions: [{ key: "role", operator: "In", values: ["x", "z"] }] } }],
  "NotIn": [{ podSelector: { matchExpressions: [{ key: "role", operator: "NotIn", values: ["x"] }] } }],
  "Exists": [{ podSelector: { matchExpressions: [{ key: "role", operator: "Exists" }] } }],
  "DoesNotExist": [{ podSelector: { matchExpressions: [{ key: "role", operator: "DoesNotExist" }] } }],
  "all namespaces": [{ namespaceSelector: {} }],
  "namespace by label": [{ namespaceSelector: { matchLabels: { team: "a" } } }],
  "namespace by name": [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "blue" } } }],
  "namespace NotIn": [{ namespaceSelector: { matchExpressions: [{ key: "team", operator: "NotIn", values: ["a"] }] } }],
  "namespace without label": [{ namespaceSelector: { matchExpressions: [{ key: "team", operator: "DoesNotExist" }] } }],
  "pods of namespaces": [{
    namespaceSelector: { matchLabels: { team: "a" } },
    podSelector: { matchLabels: { app: "x" } },
  }],
  "pods of all namespaces": [{
    namespaceSelector: {},
    podSelector: { matchExpressions: [{ key: "role", operator: "NotIn", values: ["x", "y"] }] },
  }],
  "IPv4 block": [{ ipBlock: { cidr: "203.0.113.0/24" } }],
  "all IPv4": [{ ipBlock: { cidr: "0.0.0.0/0" } }],
  "IPv4 block with exceptions": [{ ipBlock: { cidr: "0.0.0.0/0", except: ["203.0.113.0/24", "10.65.0.0/31"] } }],
  "IPv4 block with host bits": [{ ipBlock: { cidr: "198.51.100.7/24", except: ["198.51.100.200/25"] } }],
  "one address": [{ ipBlock: { cidr: "198.51.100.7/32" } }],
  "IPv6 block": [{ ipBlock: { cidr: "2001:db8:113::/48" } }],
  "all IPv6 with exceptions": [{ ipBlock: { cidr: "::/0", except: ["2001:db8:113::/48", "2001:db8:51::7/128"] } }],
  "both families": [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }],
  "pods or block": [{ podSelector: { matchLabels: { app: "y" } } }, { ipBlock: { cidr: "203.0.113.5/32" } }],
  "an exception of one that another names": [
    { ipBlock: { cidr: "203.0.112.0/22", except: ["203.0.113.0/24"] } },
    { ipBlock: { cidr: "203.0.113.5/32" } },
  ],
  "namespaces or pods": [{ namespaceSelector: { matchLabels: { team: "b" } } }, { podSelector: {} }],
  "nobody": [{ podSelector: { matchLabels: { app: "none" } } }],
};

const twenty = Array.from({ length: 20 }, (_, i): PolicyPort => ({ port: 61 + 2 * i }));
/** Every way to say on which ports. */
const ports: Record<string, PolicyPort[] | undefined> = {
  "no ports": undefined,
  "empty ports": [],
  "an empty port": [{}],
  "all of UDP": [{ protocol: "UDP" }],
  "all of SCTP": [{ protocol: "SCTP" }],
  "80": [{ port: 80 }],
  "UDP 53": [{ protocol: "UDP", port: 53 }],
  "SCTP 3868": [{ protocol: "SCTP", port: 3868 }],
  "named": [{ port: "http" }],
  "named, UDP": [{ protocol: "UDP", port: "http" }],
  "a name of another protocol": [{ protocol: "TCP", port: "dns" }],
  "a name that nobody has": [{ port: "nobody" }],
  "a range": [{ protocol: "TCP", port: 400, endPort: 1500 }],
  "a range of one": [{ protocol: "UDP", port: 53, endPort: 53 }],
  "to the last port": [{ protocol: "TCP", port: 443, endPort: 65535 }],
  "one of each": [{ port: 80 }, { protocol: "UDP", port: "dns" }, { protocol: "SCTP", port: "sig" }],
  "names and numbers": [{ port: "http" }, { port: 443 }, { port: 444 }, { protocol: "UDP", port: 8081 }],
  "more than fifteen": [...twenty, { port: "http" }],
  "all beside one": [{ protocol: "TCP" }, { port: 80 }, { protocol: "UDP", port: 53 }],
};

/** What a policy of the matrix is about. */
export interface Combination {
  peers: string;
  ports: string;
  direction: "Ingress" | "Egress" | "both";
}

/** Peers × ports × directions, those of one direction together. */
export const combinations: readonly Combination[] = (["Ingress", "Egress", "both"] as const).flatMap((direction) =>
  Object.keys(peers).flatMap((p) => Object.keys(ports).map((q) => ({ peers: p, ports: q, direction })))
);

/** A policy for one pod, found by its label `id` in one of two ways. */
export function policyOf({ peers: p, ports: q, direction }: Combination, pod: JudgedPod): KubernetesPolicy {
  const id = pod.labels.id!;
  const podSelector: LabelSelector = Number(id) % 2 === 0
    ? { matchLabels: { id } }
    : { matchExpressions: [{ key: "id", operator: "In", values: [id] }] };
  const types = direction === "both" ? ["Ingress", "Egress"] as const : [direction];
  const rule = { ports: ports[q] };
  return {
    metadata: { name: `of-${id}`, namespace: pod.namespace },
    spec: {
      podSelector,
      policyTypes: [...types],
      ...(direction !== "Egress" && { ingress: [{ from: peers[p], ...rule }] }),
      ...(direction !== "Ingress" && { egress: [{ to: peers[p], ...rule }] }),
    },
  };
}

const containerPorts = [
  { name: "http", protocol: "TCP", port: 8080 },
  { name: "http", protocol: "UDP", port: 8081 },
  { name: "dns", protocol: "UDP", port: 53 },
  { name: "sig", protocol: "SCTP", port: 3868 },
];
const spaces = ["red", "red", "red", "blue", "blue", "green"];
const labelsInTime: Record<string, string>[][] = [
  [{ app: "x" }, { app: "y", role: "x" }, { app: "x", role: "y" }, { app: "x", role: "z" }, { role: "x" }, {}],
  [{ role: "y" }, { app: "x", role: "y" }, {}, { app: "y" }, { app: "x" }, { app: "x", role: "z" }],
  [{ app: "x", role: "z" }, {}, { app: "y", role: "x" }, { role: "z" }, { app: "x", role: "y" }, { app: "y" }],
];
const teamsInTime: Record<string, string | undefined>[] = [
  { red: "a", blue: "b", green: undefined },
  { red: undefined, blue: "a", green: "b" },
  { red: "b", blue: undefined, green: "a" },
];

/** Pods and labels of namespaces as they are at a time; each time they are others. The pods' `id` stays. */
export function labelsAt(time: number): { pods: JudgedPod[]; namespaces: NamespaceLabels } {
  const labels = labelsInTime[time % 3]!, teams = teamsInTime[time % 3]!;
  const pods = spaces.map((namespace, i) => ({
    namespace,
    labels: { ...labels[i], id: `${i}` },
    // Some have the names, some do not.
    ports: i % 3 === 2 ? containerPorts.slice(1, 2) : containerPorts,
  }));
  const namespaces = Object.fromEntries(["red", "blue", "green"].map((name) => {
    const team = teams[name];
    return [name, { "kubernetes.io/metadata.name": name, ...(team && { team }) }];
  }));
  return { pods, namespaces };
}

/** Protocols and ports to try: at, beside and far from what the policies name. */
export const attempts: readonly [number, number][] = [
  ...([80, 8080, 443, 53, 399, 1500, 1501, 61, 62] as const).map((port): [number, number] => [6, port]),
  ...([53, 8081, 80, 8080] as const).map((port): [number, number] => [17, port]),
  ...([3868, 80] as const).map((port): [number, number] => [132, port]),
];

/** Those of `attempts` that the ports of a combination may be about. */
export function attemptsAt(combination: Combination): readonly (readonly [number, number])[] {
  const wanted = ports[combination.ports] ?? [];
  const numbers = { TCP: 6, UDP: 17, SCTP: 132 };
  return attempts.filter(([protocol, number]) =>
    wanted.length === 0 ||
    wanted.some(({ protocol: name = "TCP", port = number, endPort = port }) =>
      numbers[name] === protocol &&
      (typeof port === "number"
        ? port <= number && number <= Number(endPort)
        : containerPorts.some((p) => p.name === port && p.protocol === name && p.port === number))
    )
  );
}
