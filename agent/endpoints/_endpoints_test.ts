import { deepEqual, equal } from "node:assert/strict";
import type { KeyValue } from "../../datastore/store.ts";
import { Endpoints } from "./_endpoints.ts";

const prefix = "/calico/resources/v3/projectcalico.org/workloadendpoints/";

function endpoints(values: Record<string, object | string>): Endpoints {
  const kvs = Object.entries(values).sort().map(([key, value]): KeyValue => ({
    ...{ key: prefix + key, revision: 1n, created: 1n },
    value: typeof value === "string"
      ? value
      : JSON.stringify({ kind: "WorkloadEndpoint", metadata: { name: key.split("/")[1] }, spec: value }),
  }));
  const mirror = {
    get: (key: string) => kvs.find((kv) => kv.key === key),
    list: (start: string) => kvs.filter((kv) => kv.key.startsWith(start)),
  };
  return new Endpoints(mirror, "n1");
}

Deno.test("of() finds a container's endpoint by its key, also when it names no container yet", () => {
  const all = endpoints({ "a/n1-k8s-p-eth0": { containerID: "c1" }, "a/n1-k8s-q-eth0": {} });
  const of = (key: string, containerId: string) => all.of({ key: prefix + key, containerId })?.key;
  equal(of("a/n1-k8s-p-eth0", "c1"), prefix + "a/n1-k8s-p-eth0");
  equal(of("a/n1-k8s-p-eth0", "c2"), undefined);
  equal(of("a/n1-k8s-q-eth0", "c2"), prefix + "a/n1-k8s-q-eth0");
  equal(all.of({ containerId: "c1" }), undefined);
});

Deno.test("of() follows a renamed node and a moved namespace, by the container's id", () => {
  const all = endpoints({
    "ns9/old--node-cni-c1-eth0": { containerID: "c1" },
    "x/n1-cni-c2-eth0": { containerID: "c9" },
  });
  const found = all.of({ key: `${prefix}default/n1-cni-c1-eth0`, containerId: "c1" });
  equal(found?.key, prefix + "ns9/old--node-cni-c1-eth0");
  equal(all.of({ key: `${prefix}default/n1-cni-c2-eth0`, containerId: "c2" }), undefined);
});

Deno.test("a value that cannot be read is the container's that it names", () => {
  const all = endpoints({ "a/n1-k8s-p-eth0": '{"spec":{"containerID":"c1"' });
  equal(all.of({ key: `${prefix}a/n1-k8s-p-eth0`, containerId: "c1" })?.endpoint, undefined);
  equal(all.of({ key: `${prefix}a/n1-k8s-p-eth0`, containerId: "c2" }), undefined);
});

Deno.test("siblings() are other interfaces of the same pod, not of one whose name begins alike", () => {
  const spec = { containerID: "c" };
  const all = endpoints({
    "a/n1-k8s-p-eth0": spec,
    "a/n1-k8s-p-net--1": spec,
    "a/n1-k8s-p--0-eth0": spec,
    "b/n1-k8s-p-eth1": spec,
  });
  deepEqual(all.siblings(`${prefix}a/n1-k8s-p-eth0`).map((s) => s.key), [prefix + "a/n1-k8s-p-net--1"]);
});

Deno.test("withInterface() and ofThisNode() look at this node's readable endpoints only", () => {
  const all = endpoints({
    "a/n1-k8s-p-eth0": { node: "n1", interfaceName: "cali1" },
    "a/n2-k8s-q-eth0": { node: "n2", interfaceName: "cali2" },
    "a/n1-k8s-r-eth0": "{",
  });
  equal(all.withInterface("cali1", "other")?.key, prefix + "a/n1-k8s-p-eth0");
  equal(all.withInterface("cali1", prefix + "a/n1-k8s-p-eth0"), undefined);
  equal(all.withInterface("cali2", "other"), undefined);
  deepEqual(all.ofThisNode().map((e) => e.key), [prefix + "a/n1-k8s-p-eth0"]);
});
