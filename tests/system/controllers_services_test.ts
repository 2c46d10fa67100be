import assert from "node:assert/strict";
import { wait } from "../lab/wait.ts";
import type { ApiObject } from "../lab/api_objects.ts";
import type { Etcd } from "../lab/etcd.ts";
import { endpoint, inWorld, namespace, v3, valueOf, type World } from "./_controllers_world.ts";

const meta = { uid: endpoint.metadata.uid, creationTimestamp: endpoint.metadata.creationTimestamp };
const put = (etcd: Etcd, key: string, value: unknown) => etcd.etcdctl("put", key, JSON.stringify(value));
const putPool = (etcd: Etcd, name: string, spec: Record<string, unknown>) =>
  put(etcd, `${v3}/ippools/${name}`, {
    ...{ kind: "IPPool", apiVersion: "projectcalico.org/v3", metadata: { name, ...meta } },
    spec: { blockSize: 28, nodeSelector: "all()", allowedUses: ["LoadBalancer"], ...spec },
  });
const pools = async (etcd: Etcd) => {
  await putPool(etcd, "public", { cidr: "203.0.113.0/26" });
  await putPool(etcd, "asked", { cidr: "198.51.100.0/28", assignmentMode: "Manual" });
  await putPool(etcd, "six", { cidr: "2001:db8:5::/122", blockSize: 124 });
  await putPool(etcd, "pods", { cidr: "192.168.0.0/16", allowedUses: ["Workload", "Tunnel"] });
};
const settings = (assignIPs: string) => ({
  ...{
    kind: "KubeControllersConfiguration",
    apiVersion: "projectcalico.org/v3",
    metadata: { name: "default", ...meta },
  },
  spec: { prometheusMetricsPort: 0, controllers: { loadBalancer: { assignIPs } } },
});
const service = (
  name: string,
  spec: Record<string, unknown> = {},
  annotations: Record<string, string> = {},
): ApiObject => ({
  kind: "Service",
  metadata: { name, namespace: "production", annotations },
  spec: { type: "LoadBalancer", ipFamilies: ["IPv4"], ...spec },
});
const statusOf = ({ api }: World, name: string): string[] => {
  const { status } = api.objects.get("services", "production", name) as {
    status?: { loadBalancer?: { ingress?: { ip: string }[] } };
  };
  return (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
};
/** Addresses that etcd gives to a Service. */
const givenTo = async (etcd: Etcd, name: string): Promise<string[]> => {
  const blocks = [...(await etcd.dump("/calico/ipam/v2/assignment/")).values()].map((text) => JSON.parse(text));
  return blocks.flatMap((block) =>
    block.allocations.flatMap((index: number | null, ordinal: number) =>
      index !== null && block.attributes[index].secondary?.service === name ? [`${block.cidr} ${ordinal}`] : []
    )
  );
};

Deno.test("Services of type LoadBalancer get addresses, in Calico's way, and give them back", () =>
  inWorld(async (world) => {
    const { etcd, api, start } = world;
    await pools(etcd);
    await api.put(namespace("production"));
    await api.put(service("web"));
    await api.put(service("both", { ipFamilies: ["IPv4", "IPv6"] }));
    await api.put(service("inner", { type: "ClusterIP" }));
    await api.put(service("theirs", { loadBalancerClass: "cloud.example/lb" }));
    const enabled = { ENABLED_CONTROLLERS: "loadbalancer" };
    await using first = await start(enabled).works();
    const has = (name: string, pattern: RegExp) =>
      wait(
        `an address of ${name}`,
        () => pattern.test(statusOf(world, name).join(" ")) ? statusOf(world, name) : undefined,
      );
    const [web] = await has("web", /^203\.0\.113\.\d+$/);
    await has("both", /^203\.0\.113\.\d+ 2001:db8:5::[0-9a-f]*$/);
    assert.deepEqual([statusOf(world, "inner"), statusOf(world, "theirs")], [[], []]);
    const blocks = [...await etcd.dump("/calico/ipam/v2/")];
    assert.ok(blocks.some(([key]) => key.startsWith("/calico/ipam/v2/virtual/load-balancer/ipv4/block/203.0.113.")));
    const attributes = blocks.flatMap(([key, value]) =>
      key.includes("/block/") ? JSON.parse(value).attributes ?? [] : []
    );
    const own = attributes.find((a: { secondary?: { service: string } }) => a.secondary?.service === "web");
    assert.match(own.handle_id, /^lb-[A-Za-z0-9]{30,}$/);
    assert.deepEqual({ ...own.secondary, timestamp: "" }, {
      ...{ namespace: "production", service: "web", type: "LoadBalancer", timestamp: "" },
    });

    // Wishes: a pool by its name, an address, an address out of every pool.
    await api.put(service("wish", {}, { "projectcalico.org/ipv4pools": '["asked"]' }));
    const [wished] = await has("wish", /^198\.51\.100\.\d+$/);
    await api.put(service("exact", { loadBalancerIP: "203.0.113.40" }));
    await has("exact", /^203\.0\.113\.40$/);
    await api.put({ ...service("exact", {}, { "projectcalico.org/loadBalancerIPs": '["203.0.113.41"]' }), status: {} });
    await has("exact", /^203\.0\.113\.41$/);
    await api.put(service("outside", {}, { "projectcalico.org/loadBalancerIPs": '["10.9.9.9"]' }));
    await wait(
      "an Event that says why",
      () =>
        api.objects.list("events", {}).find(({ message }) =>
          /10\.9\.9\.9 is not in a configured pool/.test(String(message))
        ),
    );
    // A wish that is taken back: the address of a pool that gives none by itself goes.
    await api.put(service("wish"));
    await wait("another address", () => statusOf(world, "wish")[0] && statusOf(world, "wish")[0] !== wished);

    // Somebody spoils a status; a Service goes; one becomes another's.
    await api.put({ ...service("web"), status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } } });
    await has("web", new RegExp(`^${web}$`));
    await api.delete("services", "production", "both");
    await wait("its addresses to be free", async () => (await givenTo(etcd, "both")).length === 0);
    const cloud = { ...service("exact", { loadBalancerClass: "cloud.example/lb" }) };
    await api.put({ ...cloud, status: { loadBalancer: { ingress: [{ ip: "203.0.113.41" }, { ip: "192.0.2.7" }] } } });
    await wait("ours to go from the status", () => statusOf(world, "exact").join() === "192.0.2.7");
    await wait("and to be free", async () => (await givenTo(etcd, "exact")).length === 0);

    // A restart gives nobody a second address; a Service that was made anew gets a new handle.
    assert.equal(await first.end("SIGTERM"), 0);
    await api.delete("services", "production", "wish");
    await api.put(service("wish"));
    const before = await etcd.dump("/calico/ipam/v2/"), webs = await givenTo(etcd, "web");
    await using _second = await start(enabled).works();
    await has("wish", /^203\.0\.113\.\d+$/);
    await wait("one address for the new one", async () => (await givenTo(etcd, "wish")).length === 1);
    assert.deepEqual(await givenTo(etcd, "web"), webs);
    assert.deepEqual(statusOf(world, "web"), [web]);
    assert.equal((await etcd.dump("/calico/ipam/v2/")).size, before.size);
  }));

Deno.test("with RequestedServicesOnly only who asks gets an address, and without pools nobody keeps one", () =>
  inWorld(async (world) => {
    const { etcd, api, start } = world;
    await pools(etcd);
    await put(etcd, `${v3}/kubecontrollersconfigurations/default`, settings("RequestedServicesOnly"));
    await api.put(namespace("production"));
    await api.put(service("silent"));
    await api.put(service("classed", { loadBalancerClass: "calico" }));
    await using _instance = await start().works();
    await wait("the one that asks", () => statusOf(world, "classed").length === 1);
    assert.deepEqual(statusOf(world, "silent"), []);
    await put(etcd, `${v3}/kubecontrollersconfigurations/default`, settings("AllServices"));
    await wait("the other", () => statusOf(world, "silent").length === 1);
    for (const name of ["public", "asked", "six"]) await etcd.etcdctl("del", `${v3}/ippools/${name}`);
    await wait("all addresses to be free", async () => (await givenTo(etcd, "silent")).length === 0);
    await wait("the status to say so", () => statusOf(world, "silent").length === 0);
    assert.ok(await valueOf(etcd, `${v3}/ippools/pods`));
  }));
