import assert from "node:assert/strict";
import { wait } from "../lab/wait.ts";
import type { ApiObject } from "../lab/api_objects.ts";
import { inWorld, objectOf, policy, resourcesOf, v3, valueOf } from "./_controllers_world.ts";

const clusterPolicy = (
  name: string,
  tier: string,
  action: string,
  subject: unknown = { namespaces: {} },
): ApiObject => ({
  kind: "ClusterNetworkPolicy",
  metadata: { name },
  spec: {
    ...{ tier, priority: 7, subject },
    ingress: [{
      ...{ name: "others", action, from: [{ namespaces: { matchLabels: { team: "other" } } }] },
      protocols: [{ tcp: { destinationPort: { number: 8080 } } }],
    }],
  },
});

Deno.test("policies for the whole cluster stand in the tiers of Kubernetes, and go with their objects", () =>
  inWorld(async ({ etcd, api, start }) => {
    const key = (name: string) => `${v3}/globalnetworkpolicies/${name}`;
    await api.put(clusterPolicy("deny-others", "Admin", "Deny"));
    await api.put(clusterPolicy("with.dots", "Baseline", "Accept"));
    await api.put({
      kind: "AdminNetworkPolicy",
      metadata: { name: "older" },
      spec: {
        ...{ priority: 20, subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: "db" } } } } },
        egress: [{
          action: "Pass",
          to: [{ networks: ["10.0.0.0/8"] }],
          ports: [{ portNumber: { protocol: "UDP", port: 53 } }],
        }],
      },
    });
    await using first = await start({ ENABLED_CONTROLLERS: "policy" }).works();
    const admin = await wait("the policy", () => objectOf(etcd, key("kcnp.deny-others")));
    assert.deepEqual([admin.spec.tier, admin.spec.order, admin.spec.types], ["kube-admin", 7, ["Ingress"]]);
    assert.deepEqual(admin.spec.ingress, [{
      ...{ action: "Deny", protocol: "TCP", metadata: { annotations: { name: "others" } } },
      ...{ source: { namespaceSelector: "team == 'other'" }, destination: { ports: [8080] } },
    }]);
    const dotted = await wait("the one with dots in its name", async () => {
      return [...(await etcd.dump(key("kcnp.with-dots-"))).values()].map((text) => JSON.parse(text))[0];
    });
    assert.equal(dotted.spec.tier, "kube-baseline");
    const older = await wait("the older kind", () => objectOf(etcd, key("kanp.older")));
    assert.deepEqual([older.spec.tier, older.spec.order], ["kube-admin", 20]);
    assert.deepEqual(older.spec.egress, [{
      ...{ action: "Pass", protocol: "UDP", destination: { nets: ["10.0.0.0/8"], ports: [53] } },
    }]);

    // The server of this test has no BaselineAdminNetworkPolicy: that is no failure.
    assert.ok(!/"level":"warn"[^\n]*baselineadmin/.test(first.text), first.text);
    await api.delete("clusternetworkpolicies", undefined, "deny-others");
    await wait("the policy to go", async () => !await valueOf(etcd, key("kcnp.deny-others")));
    // A subject that cannot be read: what is in force stays in force.
    await api.put(clusterPolicy("kept", "Admin", "Deny"));
    await wait("another policy", () => valueOf(etcd, key("kcnp.kept")));
    await api.put(clusterPolicy("kept", "Admin", "Deny", {}));
    const event = await wait("an Event that says so", () => {
      return api.objects.list("events", { namespace: "default" }).find(({ message }) =>
        /spec.subject/.test(String(message))
      );
    });
    assert.equal((event.involvedObject as { kind: string }).kind, "ClusterNetworkPolicy");
    assert.ok(await valueOf(etcd, key("kcnp.kept")));
    assert.equal(await first.end("SIGTERM"), 0);
    const before = await resourcesOf(etcd);
    await using second = await start({ ENABLED_CONTROLLERS: "policy" }).works();
    await wait("all lists", () => (second.text.match(/"listed"/g) ?? []).length === 4);
    await api.put(policy("marker", "production"));
    await wait("the marker", () => valueOf(etcd, `${v3}/networkpolicies/production/knp.default.marker`));
    assert.deepEqual((await resourcesOf(etcd)).filter((line) => !line.includes("marker")), before);
  }));

Deno.test("a policy that cannot be converted or stored isolates its pods, and says so", () =>
  inWorld(async ({ etcd, api, start }) => {
    const key = (name: string) => `${v3}/networkpolicies/shop/knp.default.${name}`;
    const put = (name: string, spec: unknown) =>
      api.put({ kind: "NetworkPolicy", metadata: { name, namespace: "shop" }, spec });
    const all = "projectcalico.org/orchestrator == 'k8s'";
    const long = "n".repeat(253),
      labels = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`k${i}`, "v".repeat(60)]));
    await put("bad-cidr", {
      podSelector: { matchLabels: { a: "b" } },
      ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/99" } }] }],
    });
    await put("odd", { podSelector: { matchLabels: { a: "b" } }, policyTypes: ["Egress"], egress: "all of it" });
    await put("huge", { podSelector: { matchLabels: labels }, ingress: [{}] });
    await put("many", { podSelector: {}, ingress: Array.from({ length: 1100 }, () => ({})) });
    await put(long, { podSelector: {}, ingress: [{}] });
    await using instance = await start({ ENABLED_CONTROLLERS: "policy" }).works();
    const specOf = async (name: string) => (await wait(name, () => objectOf(etcd, key(name)))).spec;
    const subject = `${all} && a == 'b'`;
    assert.deepEqual(await specOf("bad-cidr"), { tier: "default", order: 1000, selector: subject, types: ["Ingress"] });
    assert.deepEqual(await specOf("odd"), { tier: "default", order: 1000, selector: subject, types: ["Egress"] });
    const closed = { tier: "default", order: 1000, selector: all, types: ["Ingress", "Egress"] };
    assert.deepEqual(await specOf("huge"), closed);
    assert.deepEqual(await specOf("many"), closed);
    const stored = await wait("the one with the longest name", async () => {
      return [...(await etcd.dump(key("nnn"))).keys()][0];
    });
    assert.equal(stored.slice(stored.lastIndexOf("/") + 1).length, 253);
    const notes = async (name: string) => (await objectOf(etcd, key(name))).metadata.annotations["tortie/not-followed"];
    assert.match(await notes("bad-cidr"), /"10.0.0.0\/99" is not a CIDR/);
    assert.match(await notes("many"), /allows nothing/);
    for (const name of ["bad-cidr", "odd", "huge", "many"]) {
      await wait(`an Event about ${name}`, () => {
        const about = (event: ApiObject) => (event.involvedObject as { name: string }).name === name;
        return api.objects.list("events", { namespace: "shop" }).find(about);
      });
    }
    // What is mended is followed, and no complaint stays on it.
    await put("huge", { podSelector: {}, ingress: [{}] });
    await wait("the mended policy", async () => (await objectOf(etcd, key("huge"))).spec.ingress?.length === 1);
    assert.equal(await notes("huge"), undefined);
    assert.ok(!instance.text.includes("cannot be brought in order"), instance.text);
  }));

Deno.test("what Services in rules stand for is in etcd, as long as a rule names them", () =>
  inWorld(async ({ etcd, api, start }) => {
    const slice = (name: string, service: string, ...addresses: string[]): ApiObject => ({
      kind: "EndpointSlice",
      metadata: { name, namespace: "shop", labels: { "kubernetes.io/service-name": service } },
      ...{ addressType: "IPv4", endpoints: addresses.map((a) => ({ addresses: [a], conditions: { ready: true } })) },
      ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    });
    const key = (name: string) => `${v3}/kubernetesendpointslices/shop/${name}`;
    await api.put(slice("web-1", "web", "10.65.0.1"));
    await api.put(slice("other-1", "other", "10.65.0.9"));
    const rule = { action: "Allow", destination: { services: { name: "web" } } };
    const naming = {
      ...{ kind: "NetworkPolicy", apiVersion: "projectcalico.org/v3", metadata: { name: "to-web", namespace: "shop" } },
      spec: { tier: "default", selector: "all()", egress: [rule], types: ["Egress"] },
    };
    await etcd.etcdctl("put", `${v3}/networkpolicies/shop/to-web`, JSON.stringify(naming));
    await using _instance = await start({ ENABLED_CONTROLLERS: "policy" }).works();
    const copy = await wait("the slice", () => objectOf(etcd, key("web-1")));
    assert.deepEqual(copy.endpoints, [{ addresses: ["10.65.0.1"] }]);
    assert.deepEqual(copy.ports, [{ name: "http", protocol: "TCP", port: 8080 }]);
    assert.equal(copy.metadata.labels["kubernetes.io/service-name"], "web");
    await api.put(slice("web-1", "web", "10.65.0.1", "10.65.0.2"));
    await wait("the second address", async () => (await objectOf(etcd, key("web-1"))).endpoints.length === 2);
    await api.put(slice("web-2", "web", "10.65.0.3"));
    await wait("the second slice", () => valueOf(etcd, key("web-2")));
    assert.equal(await valueOf(etcd, key("other-1")), undefined, "nobody names it");
    await etcd.etcdctl("del", `${v3}/networkpolicies/shop/to-web`);
    await wait("the copies to go", async () => (await etcd.dump(key("web"))).size === 0);
  }));
