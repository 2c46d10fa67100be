import { deepEqual, equal, throws } from "node:assert/strict";
import fc from "fast-check";
import { readConfig, versionIn } from "./config.ts";
import { Refusal } from "./refusal.ts";

const read = (config: unknown) => readConfig(JSON.stringify(config));
const code = (n: number) => (e: unknown) => e instanceof Refusal && e.cniCode === n;

Deno.test("readConfig() fills in Calico's defaults", () => {
  const { config, unknown, idle } = read({ name: "net", ipam: { type: "calico-ipam" } });
  deepEqual([unknown, idle], [[], []]);
  deepEqual(
    [config.cniVersion, config.mtu, config.num_queues, config.policy.type, config.ipam.assign_ipv4],
    ["", 0, 1, "", "true"],
  );
  equal(config.args["org.apache.mesos"].network_info.labels.labels, undefined);
});

Deno.test("readConfig() matches names without regard to case, an exact one before another, null as absent", () => {
  const { config } = read({ NAME: "net", Ipam: { TYPE: "x" }, MTU: 1400, mtu: 1300, Nodename: null });
  deepEqual([config.name, config.ipam.type, config.mtu, config.nodename], ["net", "x", 1300, ""]);
});

Deno.test("readConfig() names members that nobody knows, and those without effect, but not a plugin's own in ipam", () => {
  const { unknown, idle } = read({
    name: "n",
    wombat: 1,
    policy: { type: "k8s", tpye: 1 },
    ipam: { ranges: [] },
    qps: 5,
  });
  deepEqual(unknown, ["wombat", "policy.tpye"]);
  deepEqual(idle.map(([path]) => path), ["qps"]);
});

Deno.test("readConfig() keeps the whole text for delegated plugins", () => {
  const { config } = readConfig('{"name":"n","ipam":{"type":"x","big":123456789012345678901}}');
  deepEqual(config.raw.ipam, { type: "x", big: 123456789012345678901n });
});

Deno.test("readConfig() refuses what is not a JSON object with code 6, and a bad member or name with code 7", () => {
  for (const text of ["", " ", "{", "[]", "null", "7", '"x"', "{}}"]) throws(() => readConfig(text), code(6), text);
  const bad: unknown[] = [
    {},
    { name: "" },
    { name: "a b" },
    { name: "-a" },
    { name: 7 },
    { name: "n", mtu: "1" },
    { name: "n", mtu: 1.5 },
    { name: "n", ipam: [] },
    { name: "n", ipam: { ipv4_pools: ["a", 1] } },
    { name: "n", require_mtu_file: "true" },
    { name: "n", policy: { k8s_api_root: false } },
  ];
  for (const config of bad) throws(() => read(config), code(7), JSON.stringify(config));
});

Deno.test("readConfig() answers or refuses any JSON, and nothing else happens", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    try {
      read(value);
    } catch (error) {
      return error instanceof Refusal;
    }
    return true;
  }));
});

Deno.test("versionIn() finds the version for an error object whatever the text is", () => {
  deepEqual(["{", "[]", "{}", '{"cniVersion":"1.0.0"}', '{"cniVersion":7}'].map(versionIn), [
    ...["0.2.0", "0.2.0", "0.2.0", "1.0.0", "0.2.0"],
  ]);
});
