import assert from "node:assert/strict";
import { parseIp } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { defaultPools, type PoolInputs } from "./default_pools.ts";

function pools(env: Record<string, string> = {}, more: Partial<PoolInputs> = {}) {
  return defaultPools({
    setting: (name) => env[name],
    existing: [],
    hostAddresses: [parseIp("10.1.0.5")],
    kernelHasIpv6: true,
    random: () => 0.5,
    ...more,
  });
}

const spec4 = (env: Record<string, string> = {}, more: Partial<PoolInputs> = {}) => pools(env, more)[0]!.spec;

Deno.test("an empty cluster gets one pool of each family", () => {
  assert.deepEqual(pools({ CALICO_IPV4POOL_IPIP: "Always" }), [
    {
      name: "default-ipv4-ippool",
      spec: { cidr: "192.168.0.0/16", ipipMode: "Always", vxlanMode: "Never", natOutgoing: true, blockSize: 26 },
    },
    {
      name: "default-ipv6-ippool",
      spec: { cidr: "fd80:8000:8000::/48", ipipMode: "Never", vxlanMode: "Never", blockSize: 122 },
    },
  ]);
});

Deno.test("a family that has a pool, disabled or not, gets none", () => {
  assert.deepEqual(pools({}, { existing: ["10.0.0.0/8", "not a CIDR"] }).map((p) => p.name), ["default-ipv6-ippool"]);
  assert.deepEqual(pools({}, { existing: ["fd00::/48"] }).map((p) => p.name), ["default-ipv4-ippool"]);
  assert.deepEqual(pools({}, { existing: ["fd00::/48", "10.0.0.0/8"] }), []);
});

Deno.test("IPv6 needs the kernel and FELIX_IPV6SUPPORT", () => {
  assert.equal(pools({}, { kernelHasIpv6: false }).length, 1);
  assert.equal(pools({ FELIX_IPV6SUPPORT: "false" }).length, 1);
});

Deno.test("NO_DEFAULT_POOLS makes none and excludes a CIDR; none switches one family off", () => {
  assert.deepEqual(pools({ NO_DEFAULT_POOLS: "True" }), []);
  assert.throws(() => pools({ NO_DEFAULT_POOLS: "true", CALICO_IPV6POOL_CIDR: "none" }), Problem);
  assert.deepEqual(pools({ CALICO_IPV4POOL_CIDR: "none" }).map((p) => p.name), ["default-ipv6-ippool"]);
  assert.deepEqual(pools({ CALICO_IPV6POOL_CIDR: "none" }).map((p) => p.name), ["default-ipv4-ippool"]);
});

Deno.test("the CIDR is the setting's, else kubeadm's, else one without an address of this host", () => {
  const kubeadmConfig = ["a: b", "networking:\n  podSubnet: 10.244.0.0/16,fd01::/64\n  serviceSubnet: 10.96.0.0/12"];
  assert.deepEqual(pools({}, { kubeadmConfig }).map((p) => p.spec.cidr), ["10.244.0.0/16", "fd01::/64"]);
  assert.equal(spec4({ CALICO_IPV4POOL_CIDR: "10.5.0.0/16" }, { kubeadmConfig }).cidr, "10.5.0.0/16");
  const hostAddresses = ["192.168.1.1", "172.16.0.1", "172.17.5.5"].map((t) => parseIp(t));
  assert.equal(spec4({}, { hostAddresses }).cidr, "172.18.0.0/16");
  const everywhere = [...hostAddresses, ...Array.from({ length: 16 }, (_, i) => parseIp(`172.${16 + i}.0.1`))];
  assert.equal(spec4({}, { hostAddresses: everywhere }).cidr, "192.168.0.0/16");
});

Deno.test("a random IPv6 range is a ULA /48", () => {
  let n = 0;
  const random = () => [0.999999, 0, 0.3][n++ % 3]!;
  assert.equal(pools({}, { random })[1]!.spec.cidr, "fdff:0:4ccc::/48");
});

Deno.test("modes are read in any case and both spellings", () => {
  for (
    const [text, mode] of [["", "Never"], ["off", "Never"], ["CROSS-subnet", "CrossSubnet"], [
      "crosssubnet",
      "CrossSubnet",
    ]]
  ) {
    assert.equal(spec4({ CALICO_IPV4POOL_IPIP: text! }).ipipMode, mode);
    assert.equal(spec4({ CALICO_IPV4POOL_VXLAN: text! }).vxlanMode, mode);
  }
  assert.equal(pools({ CALICO_IPV6POOL_VXLAN: "Always" })[1]!.spec.vxlanMode, "Always");
});

Deno.test("flags are off for false, 0, no, n and f only", () => {
  for (const off of ["False", "0", "no", "N", "f"]) {
    assert.equal(spec4({ CALICO_IPV4POOL_NAT_OUTGOING: off }).natOutgoing, undefined, off);
  }
  assert.equal(spec4({ CALICO_IPV4POOL_NAT_OUTGOING: "what" }).natOutgoing, true);
  assert.equal(pools({ CALICO_IPV6POOL_NAT_OUTGOING: "1" })[1]!.spec.natOutgoing, true);
  assert.equal(spec4({ CALICO_IPV4POOL_DISABLE_BGP_EXPORT: "true" }).disableBGPExport, true);
});

Deno.test("a setting that is not understood is refused by name, also when the pools exist", () => {
  const bad: Record<string, string> = {
    CALICO_IPV4POOL_IPIP: "sometimes",
    CALICO_IPV6POOL_VXLAN: "yes",
    CALICO_IPV4POOL_BLOCK_SIZE: "19",
    CALICO_IPV6POOL_BLOCK_SIZE: "26",
    CALICO_IPV4POOL_CIDR: "fd00::/48",
    CALICO_IPV6POOL_CIDR: "10.0.0.0/8",
    CALICO_IPV4POOL_NODE_SELECTOR: "has(",
  };
  for (const [name, value] of Object.entries(bad)) {
    assert.throws(
      () => pools({ [name]: value }, { existing: ["10.0.0.0/8", "fd00::/48"] }),
      (error) => error instanceof Problem && error.where === name,
      name,
    );
  }
  assert.equal(spec4({ CALICO_IPV4POOL_BLOCK_SIZE: "32" }).blockSize, 32);
  assert.equal(spec4({ CALICO_IPV4POOL_NODE_SELECTOR: "has(rack)" }).nodeSelector, "has(rack)");
});
