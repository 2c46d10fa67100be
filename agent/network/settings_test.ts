import assert from "node:assert/strict";
import { parseIp } from "../../lib/ip.ts";
import { networkSettings } from "./settings.ts";

const env = (values: Record<string, string> = {}) => (name: string) => values[name];

Deno.test("without any configuration the settings are Calico's defaults", () => {
  const { settings, problems } = networkSettings({ env: env() });
  assert.deepEqual(problems, []);
  assert.deepEqual(settings, {
    interfacePrefixes: ["cali"],
    routeProtocol: 3,
    removeExternalRoutes: true,
    routeSyncDisabled: false,
    metric4: 1024,
    metric6: 1024,
    source4: undefined,
    source6: undefined,
    floatingIps: false,
    sourceSpoofing: false,
    ipForwarding: true,
    ipv6: true,
    mtuInterfacePattern: "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)",
    tunnelMtu: { ipip: 0, vxlan4: 0, vxlan6: 0 },
    routeRefreshMs: 90_000,
    interfaceRefreshMs: 90_000,
    ipipEnabled: undefined,
    vxlanEnabled: undefined,
    vxlanVni: 4096,
    vxlanPort: 4789,
    wireguard: {
      enabled: { 4: false, 6: false },
      deviceName: { 4: "wireguard.cali", 6: "wg-v6.cali" },
      port: { 4: 51820, 6: 51821 },
      mtuBytes: { 4: 0, 6: 0 },
      rulePriority: 99,
      table: { 4: 1, 6: 2 },
      mark: 0x200000,
      hostEncryption: false,
      keepaliveSeconds: 0,
      keyRound: "",
      mandatory: false,
    },
  });
});

Deno.test("environment beats this node's configuration, which beats the cluster's", () => {
  const { settings } = networkSettings({
    env: env({ FELIX_DEVICEROUTEPROTOCOL: "80", FELIX_IPINIPMTU: "1400", FELIX_ROUTEREFRESHINTERVAL: "30" }),
    configurations: [{
      name: "node.n1",
      spec: { deviceRouteProtocol: 70, removeExternalRoutes: false, ipForwarding: "Disabled" },
    }, {
      name: "default",
      spec: {
        deviceRouteProtocol: 60,
        removeExternalRoutes: true,
        interfacePrefix: "cali,tap",
        interfaceRefreshInterval: "1m30.5s",
        deviceRouteSourceAddress: "192.0.2.7",
        floatingIPs: "Enabled",
        ipv6Support: false,
        vxlanMTU: 1300,
      },
    }],
  });
  assert.equal(settings.routeProtocol, 80);
  assert.equal(settings.removeExternalRoutes, false);
  assert.equal(settings.ipForwarding, false);
  assert.deepEqual(settings.interfacePrefixes, ["cali", "tap"]);
  assert.deepEqual([settings.routeRefreshMs, settings.interfaceRefreshMs], [30_000, 90_500]);
  assert.deepEqual(settings.source4, parseIp("192.0.2.7"));
  assert.deepEqual([settings.floatingIps, settings.ipv6], [true, false]);
  assert.deepEqual(settings.tunnelMtu, { ipip: 1400, vxlan4: 1300, vxlan6: 0 });
});

Deno.test("a value that is not understood is told of, and the next weaker one holds", () => {
  const { settings, problems } = networkSettings({
    env: env({ FELIX_REMOVEEXTERNALROUTES: "maybe", FELIX_DEVICEROUTEPROTOCOL: "" }),
    configurations: [{
      name: "node.n1",
      spec: { removeExternalRoutes: false, deviceRouteProtocol: 300, deviceRouteSourceAddress: "fd00::1" },
    }, {
      name: "default",
      spec: { mtuIfacePattern: "(", interfacePrefix: "cali/", ipForwarding: "yes", routeRefreshInterval: "-1s" },
    }],
  });
  assert.equal(settings.removeExternalRoutes, false);
  assert.deepEqual(problems, [
    { object: "FelixConfiguration:default", setting: "interfacePrefix", value: "cali/" },
    { object: "FelixConfiguration:node.n1", setting: "deviceRouteProtocol", value: 300 },
    { object: "environment", setting: "FELIX_REMOVEEXTERNALROUTES", value: "maybe" },
    { object: "FelixConfiguration:node.n1", setting: "deviceRouteSourceAddress", value: "fd00::1" },
    { object: "FelixConfiguration:default", setting: "ipForwarding", value: "yes" },
    { object: "FelixConfiguration:default", setting: "mtuIfacePattern", value: "(" },
    { object: "FelixConfiguration:default", setting: "routeRefreshInterval", value: "-1s" },
  ]);
  assert.equal(settings.routeProtocol, 3);
});
