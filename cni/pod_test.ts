import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { formatIp } from "../lib/ip.ts";
import { isProblem } from "../lib/problem.ts";
import type { Pod } from "../datastore/kubernetes/pod.ts";
import type { Call } from "./call.ts";
import { readConfig } from "./config.ts";
import { identifiersOf, readArgs } from "./environment.ts";
import { podRequest } from "./pod.ts";
import { endpointIdentity, plainRequest, sanitizeLabel } from "./request.ts";
import { rowFor } from "./versions.ts";

function call(config: Record<string, unknown>, args = "K8S_POD_NAME=cart-0;K8S_POD_NAMESPACE=shop", env = {}): Call {
  const { config: read } = readConfig(JSON.stringify({ name: "net-x", ipam: { type: "calico-ipam" }, ...config }));
  const environment = {
    ...{ command: "ADD" as const, containerId: "c0ffee01-long", netns: "n", interfaceName: "eth0", path: [], args },
  };
  const parsed = readArgs(args, true);
  return {
    ...{ plugin: "cni", environment, env, netns: "/n", config: read, form: rowFor("1.0.0", "ADD"), args: parsed },
    ids: identifiersOf(parsed, environment, "alder"),
    attachment: { network: "net-x", containerId: "c0ffee01-long", interfaceName: "eth0" },
    stderr: [],
  };
}

const pod = (annotations: Record<string, string> = {}): Pod => ({
  metadata: {
    ...{ name: "cart-0", namespace: "shop", generateName: "cart-", labels: { app: "cart" } },
    annotations: Object.fromEntries(Object.entries(annotations).map(([k, v]) => [`cni.projectcalico.org/${k}`, v])),
  },
  spec: { serviceAccountName: "seller" },
});
const k8s = { policy: { type: "k8s" } };

Deno.test("a pod's annotation wins over its namespace's, that over the configuration; an empty one is absent", async () => {
  const namespace = { metadata: { name: "shop", annotations: { "cni.projectcalico.org/ipv4pools": '["ns"]' } } };
  const config = { ...k8s, ipam: { type: "calico-ipam", ipv4_pools: ["conf"], ipv6_pools: ["six"] } };
  const pools = async (annotations: Record<string, string>, facts = namespace as never) => {
    const { addresses } = await podRequest(call(config), { pod: pod(annotations), namespace: facts }, 0, 0);
    return addresses.from === "ipam" ? [addresses.pools4, addresses.pools6] : [];
  };
  deepEqual(await pools({ ipv4pools: '["pod"]' }), [["pod"], ["six"]]);
  deepEqual(await pools({ ipv4pools: "" }), [["ns"], ["six"]]);
  deepEqual(await pools({}, { metadata: { name: "shop" } } as never), [["conf"], ["six"]]);
});

Deno.test("ipFamilies sets both families; assign_ipv4 and assign_ipv6 count only as the exact words", async () => {
  const families = async (config: Record<string, unknown>, annotations = {}) => {
    const { addresses } = await podRequest(call({ ...k8s, ...config }), { pod: pod(annotations) }, 0, 0);
    return addresses.from === "ipam" ? [addresses.v4, addresses.v6] : [];
  };
  deepEqual(await families({}), [true, false]);
  deepEqual(await families({ ipam: { type: "calico-ipam", assign_ipv4: "no", assign_ipv6: "yes" } }), [true, false]);
  deepEqual(await families({ ipam: { type: "calico-ipam", assign_ipv4: "false", assign_ipv6: "true" } }), [
    false,
    true,
  ]);
  deepEqual(await families({}, { ipFamilies: '["IPv6"]' }), [false, true]);
});

Deno.test("fixed addresses, their order, and when they are refused", async () => {
  const request = (config: Record<string, unknown>, annotations: Record<string, string>) =>
    podRequest(call({ ...k8s, ...config }), { pod: pod(annotations) }, 0, 0);
  const given = await request({ feature_control: { ip_addrs_no_ipam: true } }, {
    ipAddrsNoIpam: '["fd00::5","10.0.0.5"]',
  });
  ok(given.addresses.from === "given" && !given.answersRoutes);
  deepEqual(given.addresses.from === "given" && given.addresses.addresses.map(formatIp), ["10.0.0.5", "fd00::5"]);
  const refused = async (config: Record<string, unknown>, annotations: Record<string, string>, code: string) =>
    await rejects(request(config, annotations), (e: unknown) => isProblem(e) && e.code === code);
  await refused({}, { ipAddrsNoIpam: '["10.0.0.5"]' }, "unsupported");
  await refused({ ipam: { type: "host-local" } }, { ipAddrs: '["10.0.0.5"]' }, "unsupported");
  await refused({}, { ipAddrs: '["10.0.0.5"]', ipAddrsNoIpam: '["10.0.0.5"]' }, "bad-input");
  await refused({}, { ipAddrs: "[]" }, "bad-input");
  await refused({}, { ipAddrs: '["10.0.0.05"]' }, "bad-input");
});

Deno.test("without policy type a pod's labels, ports and annotations do not count, and the network has a profile", async () => {
  const request = await podRequest(call({}), {}, 0, 0);
  deepEqual(request.endpoint.metadata.labels, {
    "projectcalico.org/namespace": "shop",
    "projectcalico.org/orchestrator": "k8s",
  });
  deepEqual(request.endpoint.spec.profiles, ["net-x"]);
  deepEqual(request.profile?.spec.ingress, [{ action: "Allow" }]);
  equal((await podRequest(call(k8s), { pod: pod() }, 0, 0)).profile, undefined);
});

Deno.test("the interface prefix is the first of FELIX_INTERFACEPREFIX; the MAC is lower case", async () => {
  const env = { FELIX_INTERFACEPREFIX: "tap,cali" };
  const request = await podRequest(call(k8s, undefined, env), { pod: pod({ hwAddr: "02:AA:bb:cc:dd:0e" }) }, 0, 0);
  match(request.endpoint.spec.interfaceName!, /^tap[0-9a-f]{11}$/);
  equal(request.mac, "02:aa:bb:cc:dd:0e");
});

Deno.test("the plain orchestrator: interface name, IP of CNI_ARGS, Mesos labels and namespace", () => {
  const labels = [{ key: "projectcalico.org/namespace", value: "ns/9" }, { key: "team/x", value: "blue!" }];
  const args = { "org.apache.mesos": { network_info: { labels: { labels } } } };
  const request = plainRequest(call({ args }, "IP=10.0.0.9"), 0, 1400);
  equal(request.endpoint.spec.interfaceName, "calic0ffee01-lo");
  equal(request.endpoint.metadata.namespace, "ns.9");
  equal(request.endpoint.metadata.labels!["team.x"], "blue");
  equal(request.mtu, 1400);
  deepEqual(request.attributes, { node: "alder", timestamp: "1970-01-01 00:00:00 +0000 UTC" });
  ok(request.addresses.from === "ipam" && request.addresses.specific?.length === 1);
  equal(endpointIdentity(call({ args }, "")).namespace, "ns.9", "DEL finds it there");
});

Deno.test("sanitizeLabel() always gives what Kubernetes takes as a label, and leaves that alone", () => {
  const valid = /^([a-zA-Z0-9_][-a-zA-Z0-9_.]*)?$/;
  fc.assert(fc.property(fc.string(), (text) => {
    const label = sanitizeLabel(text);
    return valid.test(label) && sanitizeLabel(label) === label && !/[.-]$/.test(label);
  }));
});
