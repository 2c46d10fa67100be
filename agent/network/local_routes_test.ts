import assert from "node:assert/strict";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";
import { describeRoute, kind, type Route, route } from "../../kernel/rtnetlink/route.ts";
import type { LocalEndpoint } from "../desired.ts";
import { Interfaces } from "./interfaces.ts";
import { blackholeRoute, byInterface, byPlace, endpointNeighbours, endpointRoutes } from "./local_routes.ts";
import { type Ownership, ownsNeighbour, ownsRoute } from "./ownership.ts";
import { networkSettings } from "./settings.ts";

const settingsOf = (spec: Record<string, unknown> = {}) =>
  networkSettings({ env: () => undefined, configurations: [{ name: "default", spec }] }).settings;
const endpoint = (parts: Partial<LocalEndpoint> = {}): LocalEndpoint => ({
  key: "/a",
  interfaceName: "cali1",
  mac: "EE:ee:ee:ee:ee:01",
  nets: [parseCidr("10.65.0.2/32"), parseCidr("fd00:65::3/128")],
  floatingIps: [parseIp("203.0.113.99")],
  ...parts,
});
const link = (index: number, name: string, up = true) => ({ index, name, up, mtuBytes: 1500 }) as Link;
const interfaces = new Interfaces();
interfaces.replace([link(1, "lo"), link(2, "eth0"), link(5, "cali1"), link(6, "cali2")], 0);
const on = interfaces.named("cali1")!;
const text = (routes: Route[]) => routes.map((r) => `${describeRoute(r)} scope ${r.scope}`);

Deno.test("a pod's routes are Calico's: link scope for IPv4, metric 1024, protocol boot", () => {
  assert.deepEqual(text(endpointRoutes(endpoint(), on, settingsOf())), [
    "10.65.0.2/32 interface 5 protocol 3 metric 1024 scope 253",
    "fd00:65::3/128 interface 5 protocol 3 metric 1024 scope 0",
  ]);
});

Deno.test("a pod's routes follow the settings: protocol, metrics, source address, floating addresses", () => {
  const settings = settingsOf({
    deviceRouteProtocol: 88,
    ipv4NormalRoutePriority: 5,
    ipv6NormalRoutePriority: 6,
    deviceRouteSourceAddress: "192.0.2.1",
    floatingIPs: "Enabled",
  });
  const routes = endpointRoutes(endpoint(), on, settings);
  assert.deepEqual(text(routes), [
    "10.65.0.2/32 interface 5 protocol 88 metric 5 scope 253",
    "fd00:65::3/128 interface 5 protocol 88 metric 6 scope 0",
    "203.0.113.99/32 interface 5 protocol 88 metric 5 scope 253",
  ]);
  assert.deepEqual(routes.map((r) => r.source), [parseIp("192.0.2.1"), undefined, parseIp("192.0.2.1")]);
});

Deno.test("a known MAC becomes a neighbour of each IPv4 address, and of nothing else", () => {
  const known = endpointNeighbours(endpoint({ nets: [...endpoint().nets, parseCidr("10.9.0.0/24")] }), on);
  assert.deepEqual(known, [{ index: 5, ip: parseIp("10.65.0.2"), mac: "ee:ee:ee:ee:ee:01" }]);
  assert.deepEqual(endpointNeighbours(endpoint({ mac: undefined }), on), []);
});

Deno.test("blackholes have Calico's own protocol number, or the configured one", () => {
  const block = parseCidr("10.66.0.0/26");
  assert.equal(describeRoute(blackholeRoute(block, settingsOf())), "blackhole 10.66.0.0/26 protocol 80 metric 0");
  assert.equal(blackholeRoute(block, settingsOf({ deviceRouteProtocol: 88 })).protocol, 88);
});

Deno.test("two routes for one place: the higher interface index has it", () => {
  const dst = parseCidr("10.65.0.2/32");
  const all = [route({ dst, index: 5 }), route({ dst, index: 9 }), route({ dst, index: 7 }), route({ dst, metric: 1 })];
  assert.deepEqual([...byPlace(all)].map(([place, r]) => [place, r.index]), [
    ["254 10.65.0.2/32 0 0", 9],
    ["254 10.65.0.2/32 0 1", undefined],
  ]);
});

Deno.test("two endpoints of one interface: the smaller key has it", () => {
  const found = byInterface([endpoint({ key: "/b" }), endpoint({ key: "/a" }), endpoint({ key: "/c" })]);
  assert.deepEqual([...found].map(([name, e]) => [name, e.key]), [["cali1", "/a"]]);
});

const ours = (parts: Partial<Ownership> = {}): Ownership => ({
  interfaces,
  settings: settingsOf(),
  known: new Set([5]),
  nowMs: 0,
  ...parts,
});
const at = (index: number | undefined, protocol: number, dst = "10.1.1.1/32") =>
  route({ dst: parseCidr(dst), index, protocol, kind: index === undefined ? kind.blackhole : kind.unicast });

Deno.test("ownsRoute(): our own number anywhere, and every route on a known pod's interface", () => {
  assert.equal(ownsRoute(at(2, 80), ours()), true);
  assert.equal(ownsRoute(at(undefined, 80), ours()), true);
  assert.equal(ownsRoute(at(5, 4), ours()), true);
  assert.equal(ownsRoute(at(5, 12), ours()), true);
});

Deno.test("ownsRoute(): never others' routes on others' interfaces, nor the kernel's link-local network", () => {
  assert.equal(ownsRoute(at(2, 3), ours()), false);
  assert.equal(ownsRoute(at(undefined, 12), ours()), false);
  assert.equal(ownsRoute(at(99, 3), ours()), false, "an interface that is not known");
  assert.equal(ownsRoute(at(5, 2, "fe80::/64"), ours()), false);
});

Deno.test("ownsRoute(): an unknown endpoint's interface has ten seconds", () => {
  assert.equal(ownsRoute(at(6, 3), ours({ nowMs: 9_999 })), false);
  assert.equal(ownsRoute(at(6, 3), ours({ nowMs: 10_000 })), true);
  assert.equal(ownsNeighbour({ index: 6 }, ours({ nowMs: 9_999 })), false);
  assert.equal(ownsNeighbour({ index: 6 }, ours({ nowMs: 10_000 })), true);
  assert.equal(ownsNeighbour({ index: 2 }, ours({ nowMs: 10_000 })), false);
});

Deno.test("ownsRoute(): without removeExternalRoutes only our numbers on pods' interfaces", () => {
  const settings = settingsOf({ removeExternalRoutes: false });
  assert.equal(ownsRoute(at(5, 4), ours({ settings })), false);
  assert.equal(ownsRoute(at(5, 3), ours({ settings })), true);
});
