import fc from "fast-check";
import type { BirdInput } from "../cases/runners/_bird_input.ts";

const prefix = "/calico/resources/v3/projectcalico.org/";
const odd = fc.constantFrom('"', "\n", "};", "#", "'", "\\", " ", "", "é", "a b", "*", "0", "-1", "all()", "\u0000");
const word = fc.oneof({ weight: 3, arbitrary: fc.constantFrom("f1", "f2", "eth*", "rack-1") }, odd, fc.string());
const number = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 70_000 }) },
  fc.constantFrom(0, -1, 4_095, 4_096, 23_456, 65_535, 65_536, 2_147_483_646, 2_147_483_647, 4_294_967_295),
);
const address4 = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.0.1") },
  fc.ipV4(),
  fc.constantFrom("0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "169.254.1.1", "240.0.0.1"),
);
const address6 = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom("fd00::1", "fd00::2", "fd00::3", "2001:db8::1") },
  fc.ipV6(),
  fc.constantFrom("::", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.9"),
);
const address = fc.oneof(address4, address6, word);
const net = (bits: number) => (a: string) => fc.integer({ min: 0, max: bits }).map((n) => `${a}/${n}`);
const cidr = fc.oneof(address4.chain(net(32)), address6.chain(net(128)), word, fc.constant("10.65.0.0/33"));
const duration = fc.constantFrom("0s", "90s", "1h30m", "1ms", "-5s", "100h", "x");
const community = fc.oneof(fc.constantFrom("65000:1", "1:2:3", "65536:1", "1:4294967296:1", ":", "1:2:3:4"), word);
const annotations = fc.dictionary(
  fc.constantFrom("tortie/bfd", "tortie/bfd-interval", "tortie/bfd-multiplier", "tortie/long-lived-graceful-restart"),
  fc.constantFrom("on", "off", "1ms", "300ms", "61s", "0", "3", "256", "1h", "16777215s", "16777216s", "\n"),
);
const some = <T>(a: fc.Arbitrary<T>) => fc.option(a, { nil: undefined });
const few = <T>(a: fc.Arbitrary<T>) => fc.array(a, { maxLength: 3 });

const node = fc.record({
  bgp: fc.record({
    ipv4Address: some(fc.oneof(address4.chain(net(32)), address)),
    ipv6Address: some(fc.oneof(address6.chain(net(128)), address)),
    asNumber: some(number),
    routeReflectorClusterID: some(fc.oneof(fc.constantFrom("224.0.0.1", "1"), word)),
  }),
  wireguard: some(fc.record({ interfaceIPv4Address: some(address4), interfaceIPv6Address: some(address6) })),
});

const password = some(fc.record({ secretKeyRef: fc.record({ name: word, key: word }) }));

const bgpPeer = fc.record({
  node: some(fc.constantFrom("n1", "n2", "")),
  nodeSelector: some(fc.constantFrom("all()", "rack ==", "has(x)", "")),
  peerIP: some(fc.oneof(address, address4.map((a) => `${a}:1790`), address6.map((a) => `[${a}]:0`))),
  asNumber: some(number),
  localASNumber: some(number),
  peerSelector: some(fc.constantFrom("all()", "", "!")),
  nextHopMode: some(fc.constantFrom("Auto", "Self", "Keep", "x")),
  keepOriginalNextHop: some(fc.boolean()),
  password,
  sourceAddress: some(fc.constantFrom("UseNodeIP", "None", "x")),
  maxRestartTime: some(duration),
  keepaliveTime: some(duration),
  numAllowedLocalASNumbers: some(fc.constantFrom(-1, 0, 2, 10, 11, 2_147_483_647)),
  ttlSecurity: some(fc.constantFrom(0, 1, 2, 254, 255)),
  reachableBy: some(address),
  filters: some(few(fc.constantFrom("f1", "f2", "gone", 'x"'))),
  localWorkloadSelector: some(fc.constantFrom("", "app == 'r'")),
});

const rule = fc.record({
  cidr: some(cidr),
  prefixLength: some(fc.record({ min: some(fc.integer({ min: -1, max: 129 })), max: some(fc.integer({ max: 129 })) })),
  matchOperator: some(fc.constantFrom("Equal", "NotEqual", "In", "NotIn", "x")),
  source: some(fc.constantFrom("RemotePeers", "x")),
  interface: some(word),
  peerType: some(fc.constantFrom("iBGP", "eBGP", "x")),
  communities: some(fc.record({ values: few(community) })),
  asPathPrefix: some(few(number)),
  priority: some(number),
  action: fc.constantFrom("Accept", "Reject", "x"),
  operations: some(few(fc.record({
    addCommunity: some(fc.record({ value: some(community) })),
    prependASPath: some(fc.record({ prefix: few(number) })),
    setPriority: some(fc.record({ value: some(number) })),
  }))),
});

const bgpFilter = fc.record({
  importV4: some(few(rule)),
  exportV4: some(few(rule)),
  importV6: some(few(rule)),
  exportV6: some(few(rule)),
});

const configuration = fc.record({
  logSeverityScreen: some(fc.constantFrom("Debug", "Info", "Fatal", "x")),
  nodeToNodeMeshEnabled: some(fc.boolean()),
  asNumber: some(number),
  serviceClusterIPs: some(few(fc.record({ cidr }))),
  serviceExternalIPs: some(few(fc.record({ cidr }))),
  serviceLoadBalancerIPs: some(few(fc.record({ cidr }))),
  communities: some(few(fc.record({ name: word, value: community }))),
  prefixAdvertisements: some(few(fc.record({ cidr, communities: few(community) }))),
  listenPort: some(fc.constantFrom(0, 1, 179, 65_535)),
  nodeMeshPassword: password,
  nodeMeshMaxRestartTime: some(duration),
  bindMode: some(fc.constantFrom("None", "NodeIP")),
  ignoredInterfaces: some(few(word)),
  programClusterRoutes: some(fc.constantFrom("Enabled", "Disabled", "x")),
  ipv4NormalRoutePriority: some(number),
  ipv6NormalRoutePriority: some(number),
});

const pool = fc.record({
  cidr,
  vxlanMode: some(fc.constantFrom("Always", "Never", "x")),
  ipipMode: some(fc.constantFrom("CrossSubnet", "Never")),
  disableBGPExport: some(fc.boolean()),
});

/** Clusters full of values that no validation would let through: bytes that end strings, numbers beside their ranges. */
export const anyCluster: fc.Arbitrary<BirdInput> = fc.record({
  // The first is ours: without it there is nothing to write.
  nodes: fc.tuple(node.filter((n) => (n.bgp.asNumber ?? 0) >= 0), node, node),
  peers: few(fc.tuple(bgpPeer, annotations)),
  filters: fc.tuple(bgpFilter, bgpFilter),
  defaults: fc.tuple(configuration, annotations),
  own: some(configuration),
  pools: few(pool),
  blocks: few(fc.tuple(address4, fc.integer({ min: 20, max: 32 }))),
  routerId: some(fc.oneof(fc.constant("hash"), address4, word)),
  secret: fc.oneof(word, fc.string({ maxLength: 90 })),
}).map((c): BirdInput => {
  const datastore: Record<string, unknown> = {};
  const put = (kind: string, plural: string, name: string, spec: unknown, given: unknown = {}) => {
    const metadata = { name, labels: { x: "y" }, annotations: given };
    datastore[`${prefix}${plural}/${name}`] = { kind, apiVersion: "projectcalico.org/v3", metadata, spec };
  };
  c.nodes.forEach((spec, i) => put("Node", "nodes", `n${i + 1}`, spec));
  c.peers.forEach(([spec, given], i) => put("BGPPeer", "bgppeers", `p${i}`, spec, given));
  c.filters.forEach((spec, i) => put("BGPFilter", "bgpfilters", `f${i + 1}`, spec));
  c.pools.forEach((spec, i) => put("IPPool", "ippools", `pool${i}`, spec));
  put("BGPConfiguration", "bgpconfigurations", "default", ...c.defaults);
  if (c.own) put("BGPConfiguration", "bgpconfigurations", "node.n1", c.own);
  for (const [a, n] of c.blocks) {
    datastore[`/calico/ipam/v2/host/n1/ipv4/block/${a}-${n}`] = { state: "confirmed" };
  }
  return { node: "n1", env: c.routerId === undefined ? {} : { CALICO_ROUTER_ID: c.routerId }, datastore };
});
