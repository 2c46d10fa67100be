import type { Resource } from "../../datastore/kind.ts";
import type { Flow } from "./flow.ts";

/** Name of the node under test. */
export const nodeName = "alder";
/** Name of the CNI network; its profile has the same name. */
export const profileOfPods = "net-x";

/** Pods: a sends, b receives, p has a profile alone, c and d come and go. */
export const pods = {
  a: { containerId: "fl-a", labels: { role: "client" } },
  b: { containerId: "fl-b", labels: { role: "server" } },
  p: { containerId: "fl-p", labels: { role: "plain" } },
  c: { containerId: "fl-c", labels: { role: "client", client: "yes" } },
  d: { containerId: "fl-d", labels: { role: "client" } },
} satisfies Record<string, { containerId: string; labels: Record<string, string> }>;
/** A pod, by its letter. */
export type PodName = keyof typeof pods;

/** Addresses that c and d get. */
export const movingAddresses = { first: "10.65.200.20", second: "10.65.200.21" };
/** Addresses outside: of endpoints of another node, of a network set, of nobody. */
export const far = {
  client: "10.66.0.1",
  moved: "10.66.0.2",
  bad: "10.66.0.9",
  friend: "198.51.100.5",
  otherFriend: "198.51.100.200",
  stranger: "203.0.113.9",
};

/** A resource as it is stored; its uid is made of its kind and name. */
export const resource = (kind: string, name: string, spec: object, labels: Record<string, string> = {}): Resource => ({
  apiVersion: "projectcalico.org/v3",
  kind,
  metadata: { name, labels, uid: `${kind}-${name}`, creationTimestamp: "2026-01-02T03:04:05Z" },
  spec: spec as Resource["spec"],
});

/** A rule that matches every packet. */
export const allow = { action: "Allow" };
/** A rule that matches every packet. */
export const deny = { action: "Deny" };
/** A rule that matches every packet. */
export const pass = { action: "Pass" };
/** The part of a rule that says protocol and destination ports. */
export const to = (protocol: "UDP" | "TCP", ...ports: (number | string)[]) => ({ protocol, destination: { ports } });
/** The part of a rule that says whose packets. */
export const from = (selector: string) => ({ source: { selector } });

/** A tier that ends in Deny. */
export const tier = (name: string, order: number) => resource("Tier", name, { order, defaultAction: "Deny" });
/** A global policy for what comes to the server, or to whom the selector says; its tier is the first word of its name. */
export const ingress = (name: string, order: number, rules: object[], selector = "role == 'server'") =>
  resource("GlobalNetworkPolicy", name, {
    ...{ tier: name.split(".")[0], order, selector, types: ["Ingress"], ingress: rules },
  });
const egress = (name: string, order: number, rules: object[], selector: string) =>
  resource("GlobalNetworkPolicy", name, {
    ...{ tier: name.split(".")[0], order, selector, types: ["Egress"], egress: rules },
  });
/** A profile that lets everything out. */
export const profile = (name: string, rules: object[]) =>
  resource("Profile", name, { ingress: rules, egress: [allow] });
/** A global network set. */
export const networkSet = (name: string, nets: string[], labels: Record<string, string>) =>
  resource("GlobalNetworkSet", name, { nets }, labels);

/** An endpoint of another node. */
export function remote(name: string, ip: string, labels: Record<string, string>): Resource {
  const endpoint = resource("WorkloadEndpoint", `birch-k8s-${name}-eth0`, {
    ...{ orchestrator: "k8s", node: "birch", containerID: name, pod: name, endpoint: "eth0" },
    ...{ ipNetworks: [ip + "/32"], profiles: [], interfaceName: `cali${name}` },
  }, { ...labels, "projectcalico.org/namespace": "far", "projectcalico.org/orchestrator": "k8s" });
  return { ...endpoint, metadata: { ...endpoint.metadata, namespace: "far" } };
}

/** Rules of the server's policy, which transitions put in another order or write otherwise. */
export const webRules = {
  bad: { ...deny, ...from("mark == 'bad'") },
  worse: { ...deny, ...from("mark == 'worse'") },
  web: { ...allow, ...to("UDP", 80) },
  webTcp: { ...allow, ...to("TCP", 80) },
  one: { ...allow, protocol: "UDP", source: { selector: "friend == 'one'" }, destination: { ports: [81] } },
  two: { ...allow, protocol: "UDP", source: { selector: "friend == 'two'" }, destination: { ports: [81] } },
  client: { ...allow, protocol: "UDP", source: { selector: "client == 'yes'" }, destination: { ports: [82] } },
  stage: { ...allow, protocol: "UDP", source: { selector: "stage == 'b'" }, destination: { ports: [86] } },
};
/** The server's policy. */
export const web = (rules: object[] = Object.values(webRules), name = "default.web", selector?: string) =>
  ingress(name, 10, rules, selector);
/** Closes ports 1000-1099 and whatever is given before. */
export const gate = (...more: object[]) =>
  ingress("guard.gate", 1, [
    ...more,
    { ...deny, ...to("UDP", "1000:1099") },
    { ...deny, ...to("TCP", "1000:1099") },
    pass,
  ]);

/** What holds before the first transition. */
export function baseResources(): Resource[] {
  return [
    tier("default", 1_000_000),
    tier("guard", 10),
    gate(),
    web(),
    egress("default.out", 20, [{ ...deny, ...to("UDP", 666) }, allow], "role == 'client' && stage != 'b'"),
    egress("default.out-b", 21, [{ ...deny, ...to("UDP", 666) }, { ...deny, ...to("UDP", 86) }, allow], "stage == 'b'"),
    profile("prof-one", [{ ...allow, ...to("UDP", 80) }]),
    profile("prof-two", [{ ...allow, ...to("UDP", "80:81") }]),
    networkSet("friends", ["198.51.100.0/24"], { friend: "one" }),
    remote("r1", far.client, { client: "yes" }),
    remote("r9", far.bad, { mark: "bad" }),
    resource("FelixConfiguration", "default", {}),
  ];
}

/** Addresses of the pods that stay. */
export interface Homes {
  a: readonly string[];
  b: readonly string[];
  p: readonly string[];
  host: string;
  hostPort: number;
}

/** All flows. The first word of a name says what it does at first: "+" passes, "-" is denied, always unless a transition says so. */
export function floodFlows({ a, b, p, host, hostPort }: Homes): Flow[] {
  const [a4, a6] = a as [string, string], [b4, b6] = b as [string, string], [p4] = p as [string];
  const { first, second } = movingAddresses;
  const outside = "192.0.2.2";
  const flows: Flow[] = [];
  const add = (name: string, src: string, dst: string, dstPort: number, more: Partial<Flow> = {}) => {
    const place = /^[+-](outside|host|[abpcd])/.exec(name)![1]!;
    flows.push({ name, from: place, src, dst, protocol: "udp", dstPort, ...more });
  };
  const tcp: Partial<Flow> = { protocol: "tcp" };
  add("+a>b web", a4, b4, 80);
  add("+a>b web tcp", a4, b4, 80, tcp);
  add("+a>b web v6", a6, b6, 80);
  add("+a>b established", a4, b4, 80, { srcPort: 7000 });
  add("+b>a answers", b4, a4, 7000, { srcPort: 80 });
  add("+b>a profile", b4, a4, 9);
  add("+a>outside", a4, outside, 53);
  add("+outside>b web", outside, b4, 80);
  add("+host>b any", host, b4, 99);
  add("+outside>b friend", far.friend, b4, 81);
  add("+outside>p web", outside, p4, 80);
  add("-a>b other", a4, b4, 99);
  add("-a>b other tcp", a4, b4, 99, tcp);
  add("-a>b other v6", a6, b6, 99);
  add("-a>b guarded", a4, b4, 1001);
  add("-a>b egress", a4, b4, 666);
  add("-a>outside egress", a4, outside, 666);
  add("-a>host", a4, host, hostPort);
  add("-a>b spoofed", far.friend, b4, 81);
  add("-outside>b stranger", far.stranger, b4, 81);
  add("-outside>b bad", far.bad, b4, 80);
  add("-outside>a profile", outside, a4, 9);
  add("-outside>p other", outside, p4, 99);
  add("+outside>b client", far.client, b4, 82);
  add("-outside>b moved", far.moved, b4, 82);
  add("+outside>b other friend", far.otherFriend, b4, 81);
  add("-a>b 84", a4, b4, 84);
  add("-a>b 84 v6", a6, b6, 84);
  add("-a>b 85", a4, b4, 85);
  add("-outside>p 81", outside, p4, 81);
  for (const [at, ip] of [["", first], ["'", second]] as const) {
    add(`-c${at}>b web`, ip, b4, 80);
    add(`-c${at}>b client`, ip, b4, 82);
    add(`-c${at}>b other`, ip, b4, 99);
    add(`-c${at}>outside egress`, ip, outside, 666);
    add(`-c${at}>host`, ip, host, hostPort);
    add(`-a>c${at}`, a4, ip, 9);
    add(`-outside>c${at}`, outside, ip, 9);
  }
  add("-c>b staged", first, b4, 86);
  add("-d>b web", first, b4, 80);
  add("-d>b client", first, b4, 82);
  return flows;
}
