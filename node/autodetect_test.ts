import assert from "node:assert/strict";
import { type Family, parseIp, tryParseNet } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { autodetect, formatAddress, type HostView, parseMethod } from "./autodetect.ts";
import type { LocalInterface } from "./interfaces.ts";

const on = (name: string, index: number, nets: string[], more: Partial<LocalInterface> = {}): LocalInterface => ({
  name,
  index,
  up: true,
  addresses: nets.map((text) => tryParseNet(text)!),
  defaultRoute: [],
  ...more,
});

/** The host whose answers of Calico are known; interfaces in the order in which they were made. */
const interfaces: LocalInterface[] = [
  on("lo", 1, ["127.0.0.1/8", "::1/128"]),
  on("eth0", 2, ["10.1.0.5/24", "10.1.0.6/24", "fe80::1/64", "2001:db8::5/64"]),
  on("eth1", 3, ["172.16.5.9/16"], { defaultRoute: [4] }),
  on("bond0", 4, ["169.254.7.7/16"]),
  on("docker0", 5, ["172.17.0.1/16"]),
  on("ens9", 6, ["203.0.113.7/32"], { up: false }),
];

function detect(method: string, view: Partial<HostView> = {}, family: Family = 4): string | undefined {
  const found = autodetect(parseMethod(method, "IP_AUTODETECTION_METHOD"), family, { interfaces, ...view }).found;
  return found && formatAddress(found);
}

Deno.test("methods that name interfaces or ranges choose as Calico does", () => {
  assert.equal(detect("interface=eth1,eth0"), "172.16.5.9/16");
  assert.equal(detect("interface=eth0,eth1"), "172.16.5.9/16");
  assert.equal(detect("interface=docker.*"), "172.17.0.1/16");
  assert.equal(detect("interface=th0"), "10.1.0.5/24");
  assert.equal(detect("skip-interface=ens.*,eth1"), "10.1.0.5/24");
  assert.equal(detect("skip-interface=ens.* , eth1"), "10.1.0.5/24");
  assert.equal(detect("cidr=10.1.0.0/24"), "10.1.0.5/24");
  assert.equal(detect("cidr=172.16.0.0/16,10.0.0.0/8"), "172.16.5.9/16");
  assert.equal(detect("interface=ens9"), "203.0.113.7/32");
  assert.equal(detect("cidr=198.51.100.0/24"), undefined);
  assert.equal(detect("interface=bond0"), undefined, "link-local is no address for a node");
});

Deno.test("first-found never takes an interface that is down while another one fits", () => {
  assert.equal(detect(""), "172.16.5.9/16");
  assert.equal(detect("first-found"), "172.16.5.9/16");
  const onlyDown = interfaces.filter((one) => !one.up || one.name === "lo");
  assert.equal(detect("first-found", { interfaces: onlyDown }), "203.0.113.7/32");
});

Deno.test("first-found keeps the node's address, then prefers the default route, then the newest interface", () => {
  assert.equal(detect("", { current: parseIp("10.1.0.6") }), "10.1.0.6/24");
  assert.equal(detect("", { current: parseIp("10.9.9.9") }), "172.16.5.9/16");
  assert.equal(detect("", { current: parseIp("203.0.113.7") }), "172.16.5.9/16", "its interface is down");
  const noRoute = interfaces.map((one) => ({ ...one, defaultRoute: [] }));
  assert.equal(detect("", { interfaces: [...noRoute].reverse() }), "172.16.5.9/16");
  const newer = [...noRoute, on("eth9", 9, ["192.0.2.1/24"])];
  assert.equal(detect("", { interfaces: newer }), "192.0.2.1/24");
});

Deno.test("IPv6 is found by itself, and a passing address only when there is no other", () => {
  assert.equal(detect("first-found", {}, 6), "2001:db8::5/64");
  const passing = { ...tryParseNet("2001:db8::aaaa/64")!, passing: true };
  const one = on("eth0", 2, []);
  assert.equal(
    detect("", { interfaces: [{ ...one, addresses: [passing, tryParseNet("2001:db8::5/64")!] }] }, 6),
    "2001:db8::5/64",
  );
  assert.equal(detect("", { interfaces: [{ ...one, addresses: [passing] }] }, 6), "2001:db8::aaaa/64");
});

Deno.test("can-reach and kubernetes-internal-ip take the length of the interface that has the address", () => {
  assert.equal(detect("can-reach=10.1.0.77", { reached: parseIp("10.1.0.5") }), "10.1.0.5/24");
  assert.equal(detect("can-reach=8.8.8.8", { reached: parseIp("172.16.5.9") }), "172.16.5.9/16");
  assert.equal(detect("can-reach=8.8.8.8"), undefined);
  assert.equal(detect("can-reach=8.8.8.8", { reached: parseIp("192.0.2.99") }), undefined);
  const internalIps = [parseIp("2001:db8::5"), parseIp("10.1.0.6")];
  assert.equal(detect("kubernetes-internal-ip", { internalIps }), "10.1.0.6/24");
  assert.equal(detect("kubernetes-internal-ip", { internalIps }, 6), "2001:db8::5/64");
  assert.equal(detect("kubernetes-internal-ip"), undefined);
});

Deno.test("the reason of a choice names every interface that was looked at", () => {
  const { reason, considered } = autodetect(parseMethod("", "IP"), 4, { interfaces });
  assert.equal(reason, "eth1 has the default route");
  assert.deepEqual(considered, [
    "ens9: 203.0.113.7/32, down",
    "docker0: name is left out by default",
    "bond0: no IPv4 address that fits",
    "eth1: 172.16.5.9/16, default route",
    "eth0: 10.1.0.5/24",
    "lo: name is left out by default",
  ]);
});

Deno.test("a method that is not understood is refused with the variable's name", () => {
  for (const bad of ["first", "interfaces=eth0", "interface", "cidr=10.0.0.1", "interface=eth(", "can-reach"]) {
    assert.throws(() => parseMethod(bad, "IP6_AUTODETECTION_METHOD"), (error) => {
      assert.ok(error instanceof Problem);
      assert.ok(error.where?.startsWith("IP6_AUTODETECTION_METHOD"), error.message);
      return error.code === "bad-input";
    }, bad);
  }
});

Deno.test("Go's flag for upper and lower case works in patterns", () => {
  assert.equal(detect("interface=(?i)ETH0"), "10.1.0.5/24");
});
