import assert from "node:assert/strict";
import { knownSettings, parseFelixFile, readSettings } from "./settings.ts";

Deno.test("the environment wins over the file, and an empty variable counts as not set", () => {
  const settings = readSettings({
    env: { NODENAME: "alpha", IP: "" },
    file: { path: "/t.yaml", values: { NODENAME: "beta", IP: "autodetect", AS: "1.10" } },
  });
  assert.equal(settings.get("NODENAME"), "alpha");
  assert.equal(settings.get("IP"), "autodetect");
  assert.equal(settings.get("AS"), "1.10");
  assert.equal(settings.get("IP6"), undefined);
  assert.deepEqual(settings.reports, []);
});

Deno.test("unknown names are reported: all of the file, in the environment those with our prefixes", () => {
  const settings = readSettings({
    env: {
      PATH: "/bin",
      CALICO_IPV4POOL_CIDRS: "x",
      IP_AUTODETECT_METHOD: "first-found",
      CALICO_TYPHA_SERVICE_HOST: "10.0.0.1",
    },
    file: { path: "/t.yaml", values: { HOME: "/root", NODNAME: "a" } },
  });
  assert.deepEqual(settings.reports.map((r) => [r.name, r.where]), [
    ["CALICO_IPV4POOL_CIDRS", "environment"],
    ["IP_AUTODETECT_METHOD", "environment"],
    ["HOME", "/t.yaml"],
    ["NODNAME", "/t.yaml"],
  ]);
});

Deno.test("values that are not understood and settings that do nothing are reported with the reason", () => {
  const { reports } = readSettings({
    env: { CALICO_NETWORKING_BACKEND: "birdd", CALICO_MANAGE_CNI: "true", CALICO_IPV4POOL_IPIP: "CrossSubnet" },
  });
  assert.match(reports[0]!.why, /"birdd" is not understood; it can be bird, vxlan, none/);
  assert.match(reports[1]!.why, /does nothing here/);
  assert.equal(reports.length, 2);
});

Deno.test("Felix's parameters are known by their own list", () => {
  const isFelixParameter = (name: string) => name.toLowerCase() === "healthport";
  const env = { FELIX_HEALTHPORT: "1", FELIX_HealthPort: "1", FELIX_HEALTHPRT: "1" };
  assert.deepEqual(readSettings({ env, isFelixParameter }).reports.map((r) => r.name), ["FELIX_HEALTHPRT"]);
  assert.deepEqual(readSettings({ env }).reports, []);
});

Deno.test("no setting is declared twice", () => {
  assert.equal(new Set(knownSettings.map((s) => s.name)).size, knownSettings.length);
});

Deno.test("Felix's file is read below environment and our file; names of parameters in any case", () => {
  const text = "[global]\n# comment\nLogPrefix = from-file ; why\nChainInsertMode: append\n\n[other]\n" +
    'EtcdEndpoints="http://a:1"\nLogPrefix = later\nHealthHost = \nMaxIpsetSize=5\n';
  const values = parseFelixFile("/t.cfg", text);
  const etcd = { EtcdEndpoints: "http://a:1", HealthHost: "" };
  assert.deepEqual(values, { LogPrefix: "later", ChainInsertMode: "append", MaxIpsetSize: "5", ...etcd });
  const settings = readSettings({
    env: { Felix_chainInsertMode: "insert", FELIX_MAXIPSETSIZE: "" },
    file: { path: "/t.yaml", values: { FELIX_LogPrefix: "ours" } },
    felix: { path: "/t.cfg", values },
  });
  assert.equal(settings.get("FELIX_CHAININSERTMODE"), "insert");
  assert.equal(settings.get("FELIX_LOGPREFIX"), "ours");
  assert.equal(settings.get("FELIX_MAXIPSETSIZE"), "5");
  assert.throws(() => parseFelixFile("/t.cfg", "a = 1\nb\n"), /b/);
});
