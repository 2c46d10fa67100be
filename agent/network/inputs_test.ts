import assert from "node:assert/strict";
import { formatCidr, parseCidr, parseIp } from "../../lib/ip.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { NetworkInputs } from "./inputs.ts";

const root = "/calico/resources/v3/projectcalico.org";
let revision = 0n;
const kv = (key: string, value: unknown): KeyValue => ({
  key,
  value: typeof value === "string" ? value : JSON.stringify(value),
  revision: ++revision,
  created: 1n,
});
const resource = (kind: string, name: string, spec: unknown, namespace?: string) => ({
  apiVersion: "projectcalico.org/v3",
  kind,
  metadata: { name, ...(namespace ? { namespace } : {}) },
  spec,
});
const endpointKey = `${root}/workloadendpoints/shop/node--1-k8s-web--0-eth0`;
const endpoint = (spec: Record<string, unknown> = {}, key = endpointKey) =>
  kv(
    key,
    resource("WorkloadEndpoint", key.split("/").pop()!, {
      orchestrator: "k8s",
      node: "node-1",
      pod: "web-0",
      endpoint: "eth0",
      interfaceName: "cali1",
      mac: "EE-EE-EE-EE-EE-01",
      ipNetworks: ["10.65.0.2/32", "fd00::2/128"],
      ...spec,
    }, "shop"),
  );
const ready = (value = true) =>
  kv(`${root}/clusterinformations/default`, resource("ClusterInformation", "default", { datastoreReady: value }));
const pool = (name: string, spec: Record<string, unknown>) =>
  kv(`${root}/ippools/${name}`, resource("IPPool", name, { blockSize: 26, nodeSelector: "all()", ...spec }));
const affinity = (block: string, state: string, node = "node-1") =>
  kv(`/calico/ipam/v2/host/${node}/ipv4/block/${block}`, { state, deleted: "false" });
const configuration = (kind: string, name: string, spec: unknown) =>
  kv(`${root}/${kind.toLowerCase()}s/${name}`, resource(kind, name, spec));

const inputs = (env: Record<string, string> = {}) =>
  new NetworkInputs({ node: "node-1", birdRuns: true, env: (name) => env[name] });
const blackholes = (of: NetworkInputs) => of.desired().desired.blackholes.map(formatCidr);
const set = (of: NetworkInputs, ...all: KeyValue[]) => of.update({ set: all, deleted: [] });

Deno.test("this node's endpoints are read, others' are passed over without a look", () => {
  const all = inputs();
  const other = kv(`${root}/workloadendpoints/shop/node--2-k8s-web--0-eth0`, "not even JSON");
  const prefix = kv(`${root}/workloadendpoints/shop/node--1--b-k8s-web--0-eth0`, "not even JSON");
  assert.deepEqual(set(all, other, prefix), { changed: false, broken: new Map() });
  assert.equal(set(all, endpoint()).changed, true);
  assert.deepEqual([...all.desired().desired.endpoints.values()], [{
    key: endpointKey,
    interfaceName: "cali1",
    mac: "ee:ee:ee:ee:ee:01",
    nets: [parseCidr("10.65.0.2/32"), parseCidr("fd00::2/128")],
    floatingIps: [],
  }]);
  all.update({ set: [], deleted: [endpointKey] });
  assert.equal(all.desired().desired.endpoints.size, 0);
});

Deno.test("floating addresses are those of ipNATs", () => {
  const all = inputs();
  set(all, endpoint({ ipNATs: [{ internalIP: "10.65.0.2", externalIP: "203.0.113.9" }] }));
  assert.deepEqual([...all.desired().desired.endpoints.values()][0]!.floatingIps, [parseIp("203.0.113.9")]);
});

Deno.test("a value that cannot be read is told of with its field, and the last good one stays", () => {
  const broken: [string | Record<string, unknown>, RegExp][] = [
    ["{", /JSON/],
    [{ ipNetworks: ["10.0.0.1/33"] }, /^spec\.ipNetworks\[0\]: "10\.0\.0\.1\/33" is no address$/],
    [{ interfaceName: "" }, /^spec\.interfaceName: missing$/],
    [{ mac: "xx" }, /^spec\.mac: "xx" is not a MAC address$/],
    [{ ipNATs: [{ internalIP: "10.0.0.1", externalIP: "?" }] }, /^spec\.ipNATs\[0\]\.externalIP: "\?" is no address$/],
  ];
  for (const [value, why] of broken) {
    const all = inputs();
    set(all, endpoint());
    const before = all.desired().desired;
    const step = set(all, typeof value === "string" ? kv(endpointKey, value) : endpoint(value));
    assert.match(step.broken.get(endpointKey)!, why);
    assert.equal(step.changed, false);
    assert.deepEqual(all.desired().desired, before);
    assert.equal(all.unread().size, 1);
    set(all, endpoint());
    assert.equal(all.unread().size, 0);
  }
});

Deno.test("the cluster is ready when it says so, and not before", () => {
  const all = inputs();
  assert.equal(all.ready(), false);
  set(all, ready());
  assert.equal(all.ready(), true);
  set(all, ready(false));
  assert.equal(all.ready(), false);
});

Deno.test("blackholes: confirmed own blocks of pools whose routes the agent programs", () => {
  const all = inputs();
  set(
    all,
    pool("vxlan", { cidr: "10.66.0.0/16", vxlanMode: "Always" }),
    pool("plain", { cidr: "10.67.0.0/16" }),
    affinity("10.66.0.64-26", "confirmed"),
    affinity("10.66.0.0-26", "confirmed"),
    affinity("10.66.0.128-26", "pending"),
    affinity("10.66.1.0-26", "confirmed", "node-2"),
    affinity("10.66.2.7-32", "confirmed"),
    affinity("10.67.0.0-26", "confirmed"),
    affinity("10.99.0.0-26", "confirmed"),
  );
  assert.deepEqual(blackholes(all), ["10.66.0.0/26", "10.66.0.64/26"]);
  set(all, affinity("10.66.0.0-26", "pendingDeletion"));
  assert.deepEqual(blackholes(all), ["10.66.0.64/26"]);
  set(all, configuration("FelixConfiguration", "default", { programClusterRoutes: "Enabled" }));
  assert.deepEqual(blackholes(all), ["10.66.0.64/26", "10.67.0.0/26"]);
  all.update({ set: [], deleted: [`${root}/ippools/vxlan`] });
  assert.deepEqual(blackholes(all), ["10.67.0.0/26"]);
});

Deno.test("of pools that overlap the longer one decides about a block", () => {
  const all = inputs();
  set(
    all,
    pool("wide", { cidr: "10.66.0.0/16", vxlanMode: "Always" }),
    pool("narrow", { cidr: "10.66.0.0/24" }),
    affinity("10.66.0.0-26", "confirmed"),
    affinity("10.66.1.0-26", "confirmed"),
  );
  assert.deepEqual(blackholes(all), ["10.66.1.0/26"]);
});

Deno.test("encapsulations are those that any pool uses", () => {
  const all = inputs();
  set(
    all,
    pool("a", { cidr: "10.66.0.0/16", ipipMode: "CrossSubnet" }),
    pool("b", { cidr: "fd00::/48", vxlanMode: "Always", blockSize: 122 }),
    pool("c", { cidr: "10.67.0.0/16" }),
  );
  assert.deepEqual([...all.desired().desired.encapsulations].sort(), ["ipip", "vxlan6"]);
});

Deno.test("settings come from this node's configuration, the cluster's and the environment", () => {
  const all = inputs({ FELIX_DEVICEROUTEPROTOCOL: "80" });
  set(
    all,
    configuration("FelixConfiguration", "default", { removeExternalRoutes: false, ipv4NormalRoutePriority: 7 }),
    configuration("FelixConfiguration", "node.node-1", { ipv4NormalRoutePriority: 8 }),
    configuration("FelixConfiguration", "node.node-2", { ipv4NormalRoutePriority: 9 }),
  );
  const { settings } = all.desired().desired;
  assert.deepEqual([settings.routeProtocol, settings.removeExternalRoutes, settings.metric4], [80, false, 8]);
});
