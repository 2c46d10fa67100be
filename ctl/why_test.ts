import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { apiVersion, resourcePrefix } from "../datastore/kind.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { runCtl } from "./main.ts";
import type { Surroundings } from "./surroundings.ts";

type Spec = Record<string, unknown>;
const pod = (name: string, node: string, ip: string, labels: Spec): [string, unknown] => [
  `workloadendpoints/shop/${node}-k8s-${name}-eth0`,
  {
    kind: "WorkloadEndpoint",
    apiVersion,
    metadata: {
      name: `${node}-k8s-${name}-eth0`,
      namespace: "shop",
      labels: { ...labels, "projectcalico.org/namespace": "shop" },
    },
    spec: {
      ...{ node, pod: name, orchestrator: "k8s", endpoint: "eth0", interfaceName: `cali${name}` },
      ...{ ipNetworks: [`${ip}/32`], profiles: ["kns.shop"] },
    },
  },
];
const plain = (plural: string, kind: string, name: string, spec: Spec, labels: Spec = {}): [string, unknown] => [
  `${plural}/${name}`,
  { kind, apiVersion, metadata: { name, labels, uid: "1", creationTimestamp: "2026-01-02T03:04:05Z" }, spec },
];
const node = (name: string, last: number) =>
  plain("nodes", "Node", name, {
    bgp: { ipv4Address: `192.0.2.${last}/24` },
    interfaces: [{ name: "eth0", addresses: [`192.0.2.${last}`] }],
  });

const cluster: [string, unknown][] = [
  pod("web", "n1", "10.65.0.2", { app: "web" }),
  pod("db", "n2", "10.65.1.3", { app: "db" }),
  node("n1", 1),
  node("n2", 2),
  plain("tiers", "Tier", "default", { order: 1000, defaultAction: "Deny" }),
  plain("profiles", "Profile", "kns.shop", { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] }),
  plain("ippools", "IPPool", "p", {
    cidr: "10.65.0.0/16",
    natOutgoing: true,
    ipipMode: "Always",
    nodeSelector: "all()",
  }),
  plain("globalnetworkpolicies", "GlobalNetworkPolicy", "db", {
    ...{ tier: "default", selector: "app == 'db'", types: ["Ingress"] },
    ingress: [
      { action: "Allow", protocol: "TCP", source: { selector: "app == 'cache'" }, destination: { ports: [5432] } },
      { action: "Allow", protocol: "TCP", source: { selector: "app in {'web','x'}" }, destination: { ports: [5432] } },
    ],
  }),
  plain("hostendpoints", "HostEndpoint", "h2", { node: "n2", interfaceName: "eth0", expectedIPs: ["192.0.2.2"] }),
  plain("hostendpoints", "HostEndpoint", "h3", { node: "n3", expectedIPs: ["198.51.100.3"] }),
];

const why = (...args: string[]) => ctl("", "why", ...args);

/** Knows whether anybody has written. */
class CountingStore extends MemoryStore {
  writes = 0;
  override txn(...args: Parameters<MemoryStore["txn"]>): ReturnType<MemoryStore["txn"]> {
    this.writes++;
    return super.txn(...args);
  }
}

/** What a command prints, with a file `f` to read. */
async function ctl(file: string, ...args: string[]): Promise<{ code: number; text: string; stored: boolean }> {
  const store = new CountingStore();
  const write = cluster.map(([key, value]) => ({ put: resourcePrefix + key, value: JSON.stringify(value) }));
  await store.txn({ compare: [], write });
  let text = "";
  const print = (more: string) => void (text += more);
  const nothing = () => Promise.resolve(undefined);
  const surroundings: Surroundings = {
    ...{ program: "tortie ctl", out: print, err: print, stdin: () => Promise.resolve("") },
    readFile: (path) => Promise.resolve(path === "f" ? file : undefined),
    env: (name) => ({ DATASTORE_TYPE: "etcdv3", ETCD_ENDPOINTS: "http://etcd:2379" })[name],
    ...{ listFolder: nothing, openStore: () => store, node: () => Promise.resolve({}), clock: new FakeClock() },
    host: () => Promise.reject(new Error("why does not need the machine")),
    ...{ uuid: () => "u", random: () => 0, version: "v0", commit: "c", screen: false, terminal: false },
  };
  store.writes = 0;
  const code = await runCtl(args, surroundings);
  return { code, text, stored: store.writes > 0 };
}

Deno.test("why names policy, rule and the terms that decide, on both nodes", async () => {
  const { code, text } = await why("shop/web", "db", "tcp/5432");
  assert.equal(code, 0);
  assert.equal(
    text,
    `WorkloadEndpoint:shop/n1-k8s-web-eth0 (10.65.0.2) -> WorkloadEndpoint:shop/n2-k8s-db-eth0 (10.65.1.3) TCP 5432: ALLOWED

1. on n1, egress of WorkloadEndpoint:shop/n1-k8s-web-eth0 (caliweb): allow
   decided by rule 0 of Profile:kns.shop
   - it asks for nothing in particular
2. on n2, ingress of WorkloadEndpoint:shop/n2-k8s-db-eth0 (calidb): allow
   decided in tier default by rule 1 of GlobalNetworkPolicy:db
   - it selects the endpoint: app == "db" (app is "db")
   - protocol tcp
   - source 10.65.0.2 is WorkloadEndpoint:shop/n1-k8s-web-eth0, app in {"web", "x"} (app is "web")
   - destination port 5432
     passed over: GlobalNetworkPolicy:db rule 0: source is not selected: 10.65.0.2 is WorkloadEndpoint:shop/n1-k8s-web-eth0, app == "cache" (app is "web")

assumed: between n1 and n2 it goes through tunl0
`,
  );
});

Deno.test("why tells a default deny with every rule that was passed over", async () => {
  const { text } = await why("web", "10.65.1.3", "udp/5432", "-o", "json");
  const { verdict, hops } = JSON.parse(text);
  assert.equal(verdict, "deny");
  assert.deepEqual([hops[1].decidedBy, hops[1].tier, hops[1].policy], ["tier", "default", undefined]);
  assert.deepEqual(
    hops[1].passedOver.map((p: { rule: number; why: string }) => [p.rule, p.why]),
    [[0, "for protocol tcp"], [1, "for protocol tcp"]],
  );
});

Deno.test("why tells of failsafe ports, host endpoints, and what nobody polices", async () => {
  const hops = async (...args: string[]) => {
    const { verdict, hops, assumed } = JSON.parse((await why(...args, "-o", "json")).text);
    return [verdict, hops.at(-1)?.decidedBy, hops.at(-1)?.interface, assumed.length];
  };
  assert.deepEqual(await hops("203.0.113.7", "n2", "tcp/22"), ["allow", "failsafe", "eth0", 1]);
  assert.deepEqual(await hops("203.0.113.7", "n2", "tcp/80"), ["deny", "no profile matched", "eth0", 1]);
  assert.deepEqual(await hops("203.0.113.7", "n1", "tcp/80"), ["allow", "no host endpoint", "eth0", 1]);
  assert.deepEqual(await hops("h2", "203.0.113.7", "udp/53"), ["allow", "failsafe", "eth0", 1]);
  assert.deepEqual(await hops("n2", "shop/db", "tcp/1"), ["allow", "the host reaches its own workloads", undefined, 0]);
  assert.deepEqual(await hops("shop/db", "n2", "icmp"), ["deny", "DefaultEndpointToHostAction", undefined, 0]);
  // An address that only a host endpoint tells of.
  assert.deepEqual(await hops("203.0.113.7", "198.51.100.3", "tcp/80"), [
    "deny",
    "no profile matched",
    "?198.51.100.3",
    1,
  ]);
  // NAT: the other node sees the first one's address.
  assert.deepEqual((JSON.parse((await why("web", "192.0.2.2", "tcp/22", "-o", "json")).text)).assumed.length, 3);
});

Deno.test("why refuses what it cannot follow, and says what to write", async () => {
  for (
    const [args, says] of [
      [["nobody", "n1", "tcp/1"], /nobody is no address, endpoint or node/],
      [["203.0.113.7", "198.51.100.1", "tcp/1"], /neither .* is in this cluster/],
      [["web", "n1", "tcp"], /tcp needs a port/],
      [["web", "n1", "tcp/70000"], /70000 is no port/],
      [["web", "n1", "foo/1"], /foo is no protocol/],
      [["web", "fd00::1", "tcp/1"], /no addresses of one IP version/],
      [["web", "n1", "tcp/1", "-o", "xml"], /unrecognized output format/],
    ] as const
  ) {
    const { code, text } = await why(...args);
    assert.equal(code, 1, text);
    assert.match(text, says);
  }
});

const policy = (spec: Spec) =>
  JSON.stringify({
    apiVersion,
    kind: "GlobalNetworkPolicy",
    metadata: { name: "db" },
    spec: { selector: "app == 'db'", ...spec },
  });

Deno.test("diff tells pairs and ports whose verdict changes, and why; it writes nothing", async () => {
  const file = policy({ ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [8080] } }] });
  for (const words of [["diff", "-f", "f"], ["apply", "-f", "f", "--dry-run"]]) {
    const { code, text, stored } = await ctl(file, ...words);
    assert.equal(code, 0, text);
    assert.equal(stored, false);
    assert.match(
      text,
      /shop\/n1-k8s-web-eth0 -> \S*shop\/n2-k8s-db-eth0: TCP 5432: ALLOWED -> DENIED\n {2}before: decided in tier default by rule 1 of GlobalNetworkPolicy:db .*\n {2}after: {2}decided by the end of tier default/,
    );
    assert.match(text, /203\.0\.113\.254 -> \S*db-eth0: TCP 8080: DENIED -> ALLOWED/);
    assert.doesNotMatch(text, /-> \S*web-eth0/);
  }
});

Deno.test("diff tells of host services that a policy opens or cuts", async () => {
  const all = { selector: "all()", ingress: [{ action: "Allow", protocol: "TCP", destination: { ports: [80] } }] };
  const { text } = await ctl(policy(all), "diff", "-f", "f", "-o", "json");
  const { changes } = JSON.parse(text) as { changes: { to: string; traffic: string[]; after: string }[] };
  const host = changes.filter((c) => c.to === "host n2");
  assert.ok(host.length > 0);
  for (const { traffic, after } of host) assert.deepEqual([traffic, after], [["TCP 80"], "allow"]);
  const web = changes.filter((c) => c.to.includes("web") && c.after === "deny");
  assert.ok(web.every((c) => !c.traffic.includes("TCP 80")) && web.length > 0);
});

Deno.test("diff of what is stored already, or says the same, changes no verdict; what is refused is told", async () => {
  const same = policy({ ...cluster.find(([key]) => key.endsWith("/db"))![1] as Spec, order: 7 });
  const spec = (cluster.find(([key]) => key === "globalnetworkpolicies/db")![1] as { spec: Spec }).spec;
  assert.match((await ctl(policy({ ...spec, order: 7 }), "diff", "-f", "f")).text, /^no verdict changes\n/);
  const { code, text } = await ctl(same.replace("app == 'db'", "app = db"), "diff", "-f", "f");
  assert.equal(code, 1, text);
});
