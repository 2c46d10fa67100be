import assert from "node:assert/strict";
import fc from "fast-check";
import { cidrOf, parseCidr } from "../lib/ip.ts";
import {
  affinityKey,
  affinityPrefix,
  blockFamilyPrefix,
  blockKey,
  handleKey,
  hostEndpointStatusKey,
  ipamConfigKey,
  ipamHostKey,
  kindPrefix,
  ownerOf,
  parseKey,
  resourceKey,
  statusKeys,
  workloadStatusKey,
} from "./keys.ts";
import { kinds } from "./kinds/index.ts";

const networks = fc.oneof(
  fc.tuple(fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }), fc.integer({ min: 20, max: 32 })).map(([n, len]) =>
    cidrOf({ v: 4, n }, len)
  ),
  fc.tuple(fc.bigInt({ min: 1n << 96n, max: (1n << 128n) - 1n }), fc.integer({ min: 112, max: 128 })).map(([n, len]) =>
    cidrOf({ v: 6, n }, len)
  ),
);

Deno.test("the key of any kind's object names it", () => {
  for (const { kind, namespaced } of kinds) {
    const key = resourceKey(kind, "a.b", "shop");
    assert.ok(key.startsWith(kindPrefix(kind)));
    assert.deepEqual(parseKey(key), {
      is: "resource",
      kind,
      name: "a.b",
      ...(namespaced ? { namespace: "shop" } : {}),
    });
    assert.equal(parseKey(`${key}/c`), undefined);
  }
});

Deno.test("the keys of IPAM are Calico's", () => {
  const cidr = cidrOf({ v: 4, n: 0x0a580af0n }, 29);
  assert.equal(blockKey(cidr), "/calico/ipam/v2/assignment/ipv4/block/10.88.10.240-29");
  assert.equal(affinityKey(ownerOf("alder"), cidr), "/calico/ipam/v2/host/alder/ipv4/block/10.88.10.240-29");
  const six = parseCidr("fd00:60::5add:9051:4065:cb40/122");
  assert.equal(blockKey(six), "/calico/ipam/v2/assignment/ipv6/block/fd00:60::5add:9051:4065:cb40-122");
  assert.equal(ipamConfigKey, "/calico/ipam/v2/config");
});

Deno.test("any of IPAM's keys gives back what it was made of", () => {
  fc.assert(fc.property(networks, fc.stringMatching(/^[a-z0-9.:-]{1,20}$/), (cidr, name) => {
    assert.deepEqual(parseKey(blockKey(cidr)), { is: "block", cidr });
    assert.deepEqual(parseKey(affinityKey(`host:${name}`, cidr)), { is: "affinity", owner: "host", node: name, cidr });
    assert.deepEqual(parseKey(affinityKey(`virtual:${name}`, cidr)), {
      is: "affinity",
      owner: "virtual",
      node: name,
      cidr,
    });
    assert.deepEqual(parseKey(handleKey(name)), { is: "handle", id: name });
    assert.deepEqual(parseKey(ipamHostKey(name)), { is: "ipam-host", node: name });
    assert.ok(blockKey(cidr).startsWith(blockFamilyPrefix(cidr.v)));
    assert.ok(affinityKey(ownerOf(name), cidr).startsWith(affinityPrefix(ownerOf(name), cidr.v)));
  }));
});

Deno.test("status keys give back whose they are", () => {
  const id = { region: "no-region", node: "n", orchestrator: "k8s", workload: "shop/web-0", endpoint: "eth0" };
  const key = workloadStatusKey({ ...id, region: undefined });
  assert.equal(key, "/calico/felix/v2/no-region/host/n/workload/k8s/shop%2fweb-0/endpoint/eth0");
  assert.deepEqual(parseKey(key), { is: "workload-status", ...id });
  const { status, lastReported } = statusKeys("n", "eu");
  assert.deepEqual(parseKey(status), { is: "node-status", region: "region-eu", node: "n", last: false });
  assert.deepEqual(parseKey(lastReported), { is: "node-status", region: "region-eu", node: "n", last: true });
  assert.deepEqual(parseKey(hostEndpointStatusKey("n", "a/b")), { is: "host-endpoint-status", node: "n", name: "a/b" });
});

Deno.test("keys that are not Calico's, or broken, are nothing", () => {
  const broken = [
    "",
    "/registry/pods/a",
    "/calico/resources/v3/projectcalico.org/IPPools/a",
    "/calico/resources/v3/projectcalico.org/ippools/",
    "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0",
    "/calico/ipam/v2/assignment/ipv6/block/10.0.0.0-26",
    "/calico/ipam/v2/host/n/ipv4/block/x-26",
  ];
  for (const key of broken) assert.equal(parseKey(key), undefined, key);
});
