import { deepEqual, equal, match } from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { apiVersion, resourcePrefix } from "../datastore/kind.ts";
import { guardKey, readPending, undoPending } from "../datastore/pending.ts";
import { LastingStore, memoryCtl } from "./_memory_ctl.ts";

type Spec = Record<string, unknown>;
const stored = (plural: string, kind: string, metadata: Spec, spec: Spec): [string, unknown] => [
  `${plural}/${metadata.namespace ? `${metadata.namespace}/` : ""}${metadata.name}`,
  { kind, apiVersion, metadata: { uid: "u", creationTimestamp: "2026-01-02T03:04:05Z", ...metadata }, spec },
];
const pod = (name: string, ip: string) =>
  stored("workloadendpoints", "WorkloadEndpoint", {
    name: `n1-k8s-${name}-eth0`,
    namespace: "shop",
    labels: { app: name, "projectcalico.org/namespace": "shop", "projectcalico.org/orchestrator": "k8s" },
  }, {
    ...{ node: "n1", pod: name, orchestrator: "k8s", endpoint: "eth0", interfaceName: `cali${name}` },
    ...{ ipNetworks: [`${ip}/32`], profiles: ["kns.shop"] },
  });
const rules = {
  selector: "app == 'db'",
  types: ["Ingress"],
  ingress: [{ action: "Allow", source: { selector: "app == 'api'" } }],
};
const staged = (name: string, spec: Spec) =>
  stored("stagednetworkpolicies", "StagedNetworkPolicy", { name, namespace: "shop", labels: { team: "a" } }, {
    ...{ tier: "default", order: 10, stagedAction: "Set" },
    ...spec,
  });
const cluster = [
  ...[pod("web", "10.65.0.2"), pod("api", "10.65.0.3"), pod("db", "10.65.0.4")],
  stored("nodes", "Node", { name: "n1" }, { bgp: { ipv4Address: "192.0.2.1/24" } }),
  stored("profiles", "Profile", { name: "kns.shop" }, {
    ingress: [{ action: "Allow" }],
    egress: [{ action: "Allow" }],
  }),
  stored("tiers", "Tier", { name: "default" }, { order: 1e6, defaultAction: "Deny" }),
  stored("clusterinformations", "ClusterInformation", { name: "default" }, { datastoreReady: true }),
];

async function ctl(objects: [string, unknown][], store = new LastingStore()) {
  for (const [key, value] of [...cluster, ...objects]) {
    await store.txn({ compare: [], write: [{ put: `${resourcePrefix}${key}`, value: JSON.stringify(value) }] });
  }
  return async (...args: string[]) => await memoryCtl(store, args, { program: "tortie ctl" });
}

Deno.test("what a staged policy would do is told before it is enforced, and one command enforces it", async () => {
  const run = await ctl([staged("db", rules)]);
  const { text } = await run("diff", "--staged");
  match(text, /shop\/n1-k8s-web-eth0 -> WorkloadEndpoint:shop\/n1-k8s-db-eth0: .*ALLOWED -> DENIED/);
  match(text, /after: {2}decided by the end of tier default/);
  match(
    (await run("get", "snp", "-n", "shop", "-o", "wide")).text,
    /WOULD DENY +WOULD ALLOW[^\n]*\n.*db +.* [1-9]\d* +0 /,
  );
  equal((await run("why", "shop/web", "shop/db", "tcp/80")).text.includes("ALLOWED"), true, "nothing is enforced yet");

  const done = await run("staged", "apply", "snp", "db", "-n", "shop");
  match(done.text, /StagedNetworkPolicy\(shop\/db\) is enforced/);
  match((await run("why", "shop/web", "shop/db", "tcp/80")).text, /DENIED/);
  match((await run("why", "shop/api", "shop/db", "tcp/80")).text, /ALLOWED/);
  match((await run("get", "np", "db", "-n", "shop", "-o", "yaml")).text, /team: a/);
  equal((await run("get", "snp", "db", "-n", "shop")).code, 1);
});

Deno.test("a staged deletion takes the policy away, Ignore does nothing, and Kubernetes keeps its own", async () => {
  const enforced = stored("networkpolicies", "NetworkPolicy", { name: "db", namespace: "shop" }, {
    tier: "default",
    ...rules,
  });
  const run = await ctl([
    ...[enforced, staged("db", { stagedAction: "Delete", order: undefined })],
    staged("later", { ...rules, stagedAction: "Ignore" }),
    stored("stagedkubernetesnetworkpolicies", "StagedKubernetesNetworkPolicy", { name: "k", namespace: "shop" }, {
      ...{ stagedAction: "Set", podSelector: {}, policyTypes: ["Ingress"] },
    }),
  ]);
  match((await run("diff", "--staged", "snp", "-n", "shop")).text, /DENIED -> ALLOWED/);
  match((await run("diff", "--staged", "sknp", "k", "-n", "shop")).text, /ALLOWED -> DENIED/);
  const { code, text } = await run("staged", "apply", "--all");
  equal(code, 1);
  match(text, /StagedNetworkPolicy\(shop\/db\) is enforced/);
  match(text, /StagedNetworkPolicy\(shop\/later\) stays: its stagedAction is Ignore/);
  match(text, /StagedKubernetesNetworkPolicy\(shop\/k\) is not enforced: .*kubectl/);
  equal((await run("get", "np", "db", "-n", "shop")).code, 1);
  equal((await run("get", "snp", "later", "-n", "shop")).code, 0);
});

Deno.test("staged apply says what it needs", async () => {
  const run = await ctl([]);
  match((await run("staged", "apply")).text, /say which staged policies to enforce/);
  match((await run("staged", "apply", "np", "x")).text, /np is no kind of staged policies/);
  equal((await run("staged", "apply", "snp", "x", "-n", "shop")).code, 1);
});

Deno.test("enforced for a time, all in one transaction, and undone when nobody confirms it", async () => {
  const store = new LastingStore({ clock: new FakeClock() });
  const run = await ctl([staged("db", rules), staged("api", { ...rules, selector: "app == 'api'" })], store);
  match((await run("staged", "apply", "--all", "--confirm", "60s")).text, /no tortie node is connected/);
  await store.txn({ compare: [], write: [{ put: guardKey("n1"), value: "" }] });
  const { text } = await run("staged", "apply", "--all", "--confirm", "60s");
  match(text, /applied 2 'StagedNetworkPolicy' resource\(s\)[^]*is undone in 60 s unless you confirm it/);
  const names = async (kind: string) => (await run("get", kind, "-n", "shop", "-o", "name")).text.trim().split("\n");
  deepEqual([await names("np"), await names("snp")], [["networkpolicy/api", "networkpolicy/db"], [""]]);
  const [pending] = await readPending(store);
  await undoPending(store, pending!, { user: "u", host: "h" }, "2026-01-02T03:05:05Z");
  deepEqual([await names("np"), await names("snp")], [[""], ["stagednetworkpolicy/api", "stagednetworkpolicy/db"]]);
});
