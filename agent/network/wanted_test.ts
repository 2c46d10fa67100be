import assert from "node:assert/strict";
import { parseCidr } from "../../lib/ip.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";
import type { Desired, Encapsulation, LocalEndpoint } from "../desired.ts";
import { Interfaces } from "./interfaces.ts";
import { hostMtu, podMtu } from "./mtu.ts";
import { networkSettings } from "./settings.ts";
import { hostSideSysctls, hostSysctls, podSysctls } from "./sysctls.ts";
import { EndpointMemory } from "./endpoint_entries.ts";
import { ClusterRouteEntries } from "./tunnels.ts";
import { wantedNetwork } from "./wanted.ts";

const link = (index: number, name: string, up = true, mtuBytes = 1500) => ({ index, name, up, mtuBytes }) as Link;
const settings = networkSettings({ env: () => undefined }).settings;
const endpoint = (key: string, interfaceName: string, ...nets: string[]): LocalEndpoint => ({
  key,
  interfaceName,
  mac: "02:00:00:00:00:01",
  nets: nets.map((n) => parseCidr(n)),
  floatingIps: [],
});
const desired = (endpoints: LocalEndpoint[], parts: Partial<Desired> = {}): Desired => ({
  endpoints: new Map(endpoints.map((e) => [e.key, e])),
  blackholes: [],
  encapsulations: new Set(),
  ownAddresses: {},
  tunnels: {},
  vteps: { 4: [], 6: [] },
  clusterRoutes: new Map(),
  wireguard: {},
  settings,
  ...parts,
});
const facts = (...links: Link[]) => {
  const interfaces = new Interfaces();
  interfaces.replace(links, 0);
  return {
    interfaces,
    rpFilter: "2",
    mtuFile: "/mtu",
    clusterEntries: new ClusterRouteEntries(),
    endpointEntries: new EndpointMemory(),
    podMtus: new Set([1400]),
    wireguardKeys: {},
  };
};

Deno.test("an endpoint whose interface is up has switches, link, routes and neighbour", () => {
  const wanted = wantedNetwork(
    desired([endpoint("/a", "cali1", "10.0.0.1/32", "fd00::1/128")]),
    facts(link(5, "cali1")),
  );
  assert.deepEqual(wanted.ofEndpoint.get("/a"), {
    raised: true,
    sysctls: hostSideSysctls("cali1", [4, 6], "2").map((s) => `5 ${s.path}`),
    links: [5],
    routes4: ["254 10.0.0.1/32 0 1024"],
    routes6: ["254 fd00::1/128 0 1024"],
    neighbours: ["5 10.0.0.1"],
  });
  assert.deepEqual([...wanted.routes4.keys()], ["254 10.0.0.1/32 0 1024"]);
  assert.deepEqual([...wanted.routes6.keys()], ["254 fd00::1/128 0 1024"]);
  assert.deepEqual([...wanted.links], [[5, { up: true }]]);
});

Deno.test("an endpoint whose interface is down waits for it: no routes, no neighbour", () => {
  const wanted = wantedNetwork(desired([endpoint("/a", "cali1", "10.0.0.1/32")]), facts(link(5, "cali1", false)));
  assert.equal(wanted.ofEndpoint.get("/a")?.raised, false);
  assert.deepEqual([wanted.routes4.size, wanted.neighbours.size, wanted.links.size], [0, 0, 1]);
});

Deno.test("an endpoint without an interface wants nothing, and one whose interface another has neither", () => {
  const two = [endpoint("/b", "cali1", "10.0.0.2/32"), endpoint("/a", "cali1", "10.0.0.1/32"), endpoint("/c", "cali9")];
  const wanted = wantedNetwork(desired(two), facts(link(5, "cali1")));
  assert.deepEqual([...wanted.ofEndpoint.keys()], ["/a"]);
  assert.deepEqual([...wanted.routes4.keys()], ["254 10.0.0.1/32 0 1024"]);
});

Deno.test("an interface that is made anew has other entries everywhere", () => {
  const all = (index: number) => {
    const wanted = wantedNetwork(desired([endpoint("/a", "cali1", "10.0.0.1/32")]), facts(link(index, "cali1")));
    return [...wanted.ofEndpoint.get("/a")!.sysctls, ...wanted.links.keys(), ...wanted.neighbours.keys()];
  };
  assert.deepEqual(all(5).filter((key) => all(6).includes(key)), []);
});

Deno.test("blackholes are routes; with routeSyncDisabled there is none of either", () => {
  const parts = { blackholes: [parseCidr("10.0.0.0/26"), parseCidr("fd00::/122")] };
  const on = wantedNetwork(desired([], parts), facts());
  assert.deepEqual([...on.routes4.keys(), ...on.routes6.keys()], ["254 10.0.0.0/26 0 0", "254 fd00::/122 0 1024"]);
  const off = wantedNetwork(desired([], { ...parts, settings: { ...settings, routeSyncDisabled: true } }), facts());
  assert.deepEqual([off.routes4.size, off.routes6.size], [0, 0]);
});

Deno.test("the host forwards unless it is told not to", () => {
  const paths = (s: Parameters<typeof hostSysctls>[0]) => hostSysctls(s).map((x) => x.path);
  assert.deepEqual(paths({ ...settings, ipForwarding: true, ipv6: true }), [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_acct",
  ]);
  assert.deepEqual(paths({ ...settings, ipForwarding: false, ipv6: true }), ["net/netfilter/nf_conntrack_acct"]);
});

Deno.test("switches of a version are set only when the pod has an address of it", () => {
  const v4 = hostSideSysctls("cali1", [4]).map((s) => s.path), v6 = hostSideSysctls("cali1", [6]).map((s) => s.path);
  assert.ok(v4.includes("net/ipv4/conf/cali1/proxy_arp") && !v4.includes("net/ipv6/conf/cali1/proxy_ndp"));
  assert.ok(v6.includes("net/ipv6/conf/cali1/proxy_ndp") && !v6.includes("net/ipv4/conf/cali1/proxy_arp"));
  assert.ok(v4.includes("net/ipv6/conf/cali1/accept_ra"), "router advertisements of a pod are never believed");
  assert.deepEqual(podSysctls("eth0", [4], true), [{ path: "net/ipv4/ip_forward", value: "1" }]);
  assert.equal(podSysctls("eth0", [6], false).find((s) => s.path.endsWith("all/forwarding"))?.value, "0");
});

Deno.test("podMtu() is the host's less the widest tunnel header, or what is configured", () => {
  const { interfaces } = facts(link(1, "lo", true, 65536), link(2, "eth0", true, 9000), link(3, "eth1", false, 1000));
  const mtu = (list: Encapsulation[], tunnelMtu = settings.tunnelMtu) =>
    podMtu(hostMtu(interfaces.all(), settings.mtuInterfacePattern), new Set(list), { ...settings, tunnelMtu });
  assert.equal(mtu([]), 9000);
  assert.equal(mtu(["ipip"]), 8980);
  assert.equal(mtu(["ipip", "vxlan4"]), 8950);
  assert.equal(mtu(["vxlan6"]), 8930);
  assert.equal(mtu(["ipip", "vxlan4"], { ipip: 1440, vxlan4: 0, vxlan6: 0 }), 1440);
  assert.equal(hostMtu([], settings.mtuInterfacePattern), 1460, "no interface matches");
  const { files } = wantedNetwork(desired([], { encapsulations: new Set(["vxlan4"]) }), facts(link(2, "eth0")));
  assert.deepEqual([...files], [["/mtu", { text: "1450" }]]);
});

Deno.test("Interfaces tells whether something changed that routes depend on", () => {
  const interfaces = new Interfaces();
  assert.equal(interfaces.replace([link(1, "lo"), link(5, "cali1", false)], 100), true);
  assert.equal(interfaces.replace([link(1, "lo"), link(5, "cali1", false)], 200), false);
  assert.equal(interfaces.named("cali1")?.firstSeenMs, 100);
  assert.equal(interfaces.update(link(5, "cali1", true), false, 300), true);
  assert.equal(interfaces.update(link(5, "cali1", true), false, 300), false);
  assert.equal(interfaces.update(link(5, "cali9", true), false, 400), true, "renamed");
  assert.deepEqual([interfaces.named("cali1"), interfaces.named("cali9")?.firstSeenMs], [undefined, 400]);
  assert.equal(interfaces.update(link(7, "x"), true, 400), false, "it was never there");
  assert.equal(interfaces.update(link(5, "cali9"), true, 400), true);
  assert.equal(interfaces.at(5), undefined);
});

Deno.test("what is remembered of endpoints is what would be made anew, whatever of them, their interface or the settings changes", () => {
  const remembering = facts();
  const one = endpoint("/a", "cali1", "10.0.0.1/32"), other = endpoint("/a", "cali1", "10.0.0.2/32", "fd00::2/128");
  const floating =
    networkSettings({ env: (name) => (name === "FELIX_DEVICEROUTEPROTOCOL" ? "99" : undefined) }).settings;
  const steps: [Link, LocalEndpoint, Desired["settings"]][] = [
    [link(5, "cali1", false), one, settings],
    [link(5, "cali1"), one, settings],
    [link(6, "cali1"), one, settings],
    [link(6, "cali1"), other, settings],
    [link(6, "cali1"), other, floating],
    [link(6, "cali1"), one, settings],
  ];
  for (const [on, endpoint, settings] of steps) {
    remembering.interfaces.replace([on], 0);
    const want = desired([endpoint], { settings });
    assert.deepEqual(wantedNetwork(want, remembering), wantedNetwork(want, facts(on)));
  }
});
