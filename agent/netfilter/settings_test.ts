import assert from "node:assert/strict";
import { type FilterParameters, filterParameters, settingsOf } from "./settings.ts";

const of = (spec: Record<string, unknown>, env: Record<string, string> = {}) =>
  filterParameters({ env: (name) => env[name], configurations: [{ name: "default", spec }] });

/** Field, a good value with what it becomes, and values that are not understood. */
const cases: [field: string, key: keyof FilterParameters, good: unknown, becomes: unknown, bad: unknown[]][] = [
  ["interfacePrefix", "interfacePrefixes", "cali,tap", ["cali", "tap"], ["a b", "cali+", "none", "x".repeat(16)]],
  ["interfaceExclude", "interfaceExclude", "a,/^b/", ["^a$", "^b"], ["/(/", "a b"]],
  ["iptablesMarkMask", "markMask", 0xff000000, 0xff000000, ["mask", -1, 2 ** 33]],
  ["iptablesFilterAllowAction", "filterAllow", "RETURN", "return", ["drop"]],
  ["iptablesMangleAllowAction", "mangleAllow", "Return", "return", ["none"]],
  ["iptablesFilterDenyAction", "filterDeny", "reject", "reject", ["accept"]],
  ["defaultEndpointToHostAction", "endpointToHost", "Accept", "accept", ["reject"]],
  ["vxlanPort", "vxlanPort", "0x12b5", 4789, [0, 70000, "x"]],
  ["allowVXLANPacketsFromWorkloads", "allowVxlan", "yes", true, ["maybe"]],
  ["allowIPIPPacketsFromWorkloads", "allowIpip", true, true, ["2"]],
  ["disableConntrackInvalidCheck", "noInvalidCheck", "T", true, ["tr"]],
  ["failsafeInboundHostPorts", "failsafeIn", "udp:[fd00::/8]:68,22", [
    { protocol: "udp", net: "fd00::/8", port: 68 },
    { protocol: "tcp", port: 22 },
  ], ["icmp:1", "tcp:70000", "tcp:x:22", [{ protocol: "tcp" }]]],
  ["failsafeOutboundHostPorts", "failsafeOut", [], [], ["a"]],
  ["logPrefix", "logPrefix", "x", "x", [7]],
  ["logActionRateLimit", "logRate", "5/second", "5/second", ["0/second", "5/week", "5"]],
  ["logActionRateLimitBurst", "logBurst", 0, 0, [-1, 10_000]],
  ["natPortRange", "natPorts", "1000:2000", { min: 1000, max: 2000 }, ["2:1", "a:b", "1:70000", "70000"]],
  ["natPortRange", "natPorts", 5000, { min: 5000, max: 5000 }, []],
  ["natOutgoingAddress", "natAddress", "192.0.2.1", "192.0.2.1", ["fd00::1", "x"]],
  ["iptablesNATOutgoingInterfaceFilter", "natInterface", "eth+", "eth+", ["a b"]],
  ["natOutgoingExclusions", "natExclusions", "IPPoolsAndHostIPs", "ippoolsandhostips", ["all"]],
  ["serviceLoopPrevention", "serviceLoops", "Disabled", "disabled", ["off"]],
  ["chainInsertMode", "insertMode", "APPEND", "append", ["top"]],
  ["iptablesBackend", "backend", "NFT", "nft", ["nftables"]],
  ["maxIpsetSize", "maxSetSize", 5, 5, [0, "none"]],
  ["ipv6Support", "ipv6", "f", false, ["off"]],
  ["floatingIPs", "floatingIps", "Enabled", true, ["true"]],
  ["workloadSourceSpoofing", "sourceSpoofing", "any", true, ["some"]],
  ["iptablesRefreshInterval", "refreshMs", "1m30s", 90_000, ["soon", "-1s"]],
  ["ipsetsRefreshInterval", "setRefreshMs", "90", 90_000, ["x"]],
  ["externalNodesList", "externalNodes", "192.0.2.0/24,198.51.100.7", ["192.0.2.0/24", "198.51.100.7"], ["x"]],
];

for (const [field, key, good, becomes, bad] of cases) {
  Deno.test(`${field} is read from JSON, and bad values are named and leave the default`, () => {
    const otherwise = of({}).settings[key];
    const { settings, problems } = of({ [field]: good });
    assert.deepEqual([JSON.parse(JSON.stringify(settings[key])), problems], [becomes, []]);
    for (const value of bad) {
      const read = of({ [field]: value });
      assert.deepEqual(read.settings[key], otherwise, `${field}: ${JSON.stringify(value)}`);
      assert.deepEqual(read.problems, [{ object: "FelixConfiguration:default", setting: field, value }]);
    }
  });
}

Deno.test("a mark mask with fewer than five bits is named and the default holds", () => {
  const { settings, problems } = of({ iptablesMarkMask: 0xf0000 });
  assert.equal(settings.markMask, 0xffff0000);
  assert.equal(problems.length, 1);
});

Deno.test("the environment calls parameters by Felix's names", () => {
  const env = { FELIX_IPV6SUPPORT: "false", FELIX_EXTERNALNODESCIDRLIST: "192.0.2.1", TORTIE_CUT_DENIED_FLOWS: "yes" };
  const { settings } = of({ ipv6Support: true, externalNodesList: [] }, env);
  assert.deepEqual([settings.ipv6, settings.externalNodes, settings.cutDeniedFlows], [false, ["192.0.2.1"], true]);
});

Deno.test("WireGuard has a mark, a port and a device by family; without a sixth bit in the mask it has none of them", () => {
  const off = { ipip: false, vxlan: false, devices: [] };
  const parts = (family: 4 | 6, more: Record<string, unknown> = {}) => {
    const { settings } = of({ wireguardEnabled: true, wireguardHostEncryptionEnabled: true, ...more });
    const { marks, wireguardPort, tunnels, wireguardHostEncryption } = settingsOf(settings, family, off);
    return [marks.wireguard, wireguardPort, tunnels, wireguardHostEncryption];
  };
  assert.deepEqual(parts(4), [0x200000, 51820, ["wireguard.cali"], true]);
  assert.deepEqual(parts(6), [0x200000, undefined, [], true], "IPv6 is not on, but its packets carry the mark too");
  assert.deepEqual(
    parts(6, { wireguardEnabledV6: true, wireguardListeningPortV6: 7, wireguardInterfaceNameV6: "w6" }),
    [
      ...[0x200000, 7, ["w6"], true],
    ],
  );
  assert.deepEqual(parts(4, { wireguardEnabled: false }), [0, undefined, [], true]);
  assert.deepEqual(parts(4, { iptablesMarkMask: 0x1f0000 }), [0, undefined, [], true]);
});
