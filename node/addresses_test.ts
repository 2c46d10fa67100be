import assert from "node:assert/strict";
import { tryParseNet } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import {
  type AddressWish,
  chooseAddress,
  conflicts,
  listedFamilies,
  nodeInterfaces,
  parseAsNumber,
} from "./addresses.ts";
import { parseMethod } from "./autodetect.ts";
import type { LocalInterface } from "./interfaces.ts";

const one = (name: string, nets: string[], more: Partial<LocalInterface> = {}): LocalInterface => ({
  name,
  index: 2,
  up: true,
  addresses: nets.map((text) => tryParseNet(text)!),
  defaultRoute: [],
  ...more,
});
const interfaces = [one("eth0", ["10.1.0.5/24", "fe80::1/64", "2001:db8::5/64"])];

function choose(wish: Partial<AddressWish>, host = interfaces) {
  const whole: AddressWish = { family: 4, setting: "", method: parseMethod("", "IP"), current: "", ...wish };
  return chooseAddress(whole, { interfaces: host });
}

Deno.test("IP: the table of settings and stored addresses", () => {
  assert.equal(choose({}).address, "10.1.0.5/24", "empty and none stored: detected");
  assert.equal(choose({ setting: "autodetect", current: "10.9.9.9/24" }).address, "10.1.0.5/24");
  assert.equal(choose({ current: "10.9.9.9/24" }).address, "10.9.9.9/24", "empty and one stored: kept");
  assert.equal(choose({ setting: "none", current: "10.9.9.9/24" }).address, "10.9.9.9/24", "none does not clear");
  assert.equal(choose({ setting: "none" }).address, "");
  assert.equal(choose({ setting: "10.1.0.5" }).address, "10.1.0.5/24", "length of the interface that has it");
  assert.equal(choose({ setting: "10.1.0.9" }).address, "10.1.0.9/32");
  assert.equal(choose({ setting: "10.1.0.5/16" }).address, "10.1.0.5/16", "with length: as given, not masked");
});

Deno.test("IP6: empty leaves alone, a bare address becomes /128", () => {
  assert.equal(choose({ family: 6 }).address, "");
  assert.equal(choose({ family: 6, current: "2001:db8::9/64" }).address, "2001:db8::9/64");
  assert.equal(choose({ family: 6, setting: "autodetect" }).address, "2001:db8::5/64");
  assert.equal(choose({ family: 6, setting: "2001:db8::5" }).address, "2001:db8::5/128");
  assert.equal(choose({ family: 6, setting: "2001:db8::5/64" }).address, "2001:db8::5/64");
});

Deno.test("detection that finds nothing keeps a stored address and fails without one", () => {
  const kept = choose({ setting: "autodetect", current: "10.9.9.9/24" }, []);
  assert.equal(kept.address, "10.9.9.9/24");
  assert.equal(kept.warnings.length, 2);
  assert.throws(() => choose({ setting: "autodetect" }, []), Problem);
  assert.throws(() => choose({ family: 6, setting: "autodetect" }, []), Problem);
});

Deno.test("an address that no interface has is used, with a warning", () => {
  assert.deepEqual(choose({ setting: "10.1.0.9/24" }).warnings, [
    "Unable to confirm IPv4 address 10.1.0.9 is assigned to this host",
  ]);
  assert.deepEqual(choose({ setting: "10.1.0.5/24" }).warnings, []);
});

Deno.test("what is no address of the family is refused", () => {
  for (const bad of ["10.1.0", "auto", "2001:db8::1", "10.0.0.0/33", "none "]) {
    assert.throws(() => choose({ setting: bad }), (e) => e instanceof Problem && e.where === "IP", bad);
  }
  assert.throws(() => choose({ family: 6, setting: "10.1.0.5" }), Problem);
});

Deno.test("the Node lists interfaces by name, without those that come and go", () => {
  const passing = { ...tryParseNet("2001:db8::aaaa/64")!, passing: true };
  const host = [
    one("ifb1", []),
    { ...one("eth0", ["10.1.0.5/24", "fe80::1/64"]), addresses: [...interfaces[0]!.addresses, passing] },
    one("lo", ["127.0.0.1/8"]),
    one("cali123", ["fe80::2/64"], { kind: "veth" }),
    one("lxc7", ["fe80::3/64"], { kind: "veth" }),
    one("vpn0", ["192.0.2.1/24"], { kind: "veth" }),
  ];
  assert.deepEqual(nodeInterfaces(host, [4]), [
    { name: "eth0", addresses: ["10.1.0.5"] },
    { name: "ifb1" },
    { name: "vpn0", addresses: ["192.0.2.1"] },
  ]);
  assert.deepEqual(nodeInterfaces(host, [4, 6])[0], {
    name: "eth0",
    addresses: ["10.1.0.5", "fe80::1", "2001:db8::5"],
  });
  assert.deepEqual(nodeInterfaces(host, []), []);
});

Deno.test("interfaces are listed for the families that are set and not none", () => {
  assert.deepEqual(listedFamilies({ 4: "autodetect", 6: "" }), [4]);
  assert.deepEqual(listedFamilies({ 4: "none", 6: "2001:db8::1" }), [6]);
  assert.deepEqual(listedFamilies({ 4: "", 6: "none" }), []);
});

Deno.test("a conflict is an equal address, whatever the prefix lengths, and names the node", () => {
  const others = new Map([["beta", ["10.1.0.5/32", "2001:db8::5/64"]], ["gamma", ["nonsense", "10.1.0.6/24"]]]);
  assert.deepEqual(conflicts(["10.1.0.5/24"], others), [{ node: "beta", family: 4, address: "10.1.0.5" }]);
  assert.deepEqual(conflicts(["10.1.0.7/24"], others), []);
  assert.equal(conflicts(["10.1.0.6/24", "2001:db8::5/128"], others).length, 2);
});

Deno.test("AS numbers are read in both notations", () => {
  assert.equal(parseAsNumber("64512"), 64512);
  assert.equal(parseAsNumber("1.10"), 65546);
  assert.equal(parseAsNumber("4294967295"), 4294967295);
  for (const bad of ["4294967296", "65536.1", "1.65536", "x", "", "1.2.3", "-1"]) {
    assert.throws(() => parseAsNumber(bad), Problem, bad);
  }
});
