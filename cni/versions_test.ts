import { deepEqual, equal, throws } from "node:assert/strict";
import { Refusal } from "./refusal.ts";
import { appendResult, readResult, type Result, rowFor, shapeResult, versionAnswer, versions } from "./versions.ts";

const result: Result = {
  interfaces: [{ name: "cali1" }, { name: "eth0", mac: "02:00:00:00:00:01", mtu: 1400, sandbox: "/n" }],
  ips: [{ address: "10.0.0.1/32", interface: 1 }, { address: "fd00::1/128", interface: 1 }],
  routes: [{ dst: "10.0.0.1/28" }, { dst: "fd00::1/124", mtu: 9 }],
  dns: {},
};

Deno.test("shapeResult() gives each version what it has, members in Go's order", () => {
  const forms = Object.fromEntries(versions.map((v) => [v.version, shapeResult(result, v)]));
  deepEqual(forms["0.2.0"], {
    cniVersion: "0.2.0",
    ip4: { ip: "10.0.0.1/32", routes: [{ dst: "10.0.0.1/28" }] },
    ip6: { ip: "fd00::1/128", routes: [{ dst: "fd00::1/124" }] },
    dns: {},
  });
  equal(
    JSON.stringify(forms["0.4.0"]),
    '{"cniVersion":"0.4.0","interfaces":[{"name":"cali1"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/n"}],' +
      '"ips":[{"version":"4","address":"10.0.0.1/32","interface":1},{"version":"6","address":"fd00::1/128","interface":1}],' +
      '"routes":[{"dst":"10.0.0.1/28"},{"dst":"fd00::1/124"}],"dns":{}}',
  );
  deepEqual(forms["1.0.0"]!.interfaces, result.interfaces);
  deepEqual([forms["1.0.0"]!.dns, forms["1.0.0"]!.ips], [undefined, result.ips]);
  deepEqual(forms["1.1.0"]!.routes, result.routes);
});

Deno.test("shapeResult() leaves out empty lists", () => {
  const empty = { interfaces: [], ips: [], routes: [], dns: {} };
  deepEqual(shapeResult(empty, rowFor("1.0.0", "ADD")), { cniVersion: "1.0.0" });
  deepEqual(shapeResult(empty, rowFor("", "ADD")), { cniVersion: "0.2.0", dns: {} });
});

Deno.test("readResult() is the inverse of shapeResult() for what a version can say", () => {
  for (const form of versions.filter((v) => !v.onePerFamily)) {
    const again = shapeResult(readResult(shapeResult(result, form), "prevResult"), form);
    deepEqual(again, shapeResult(result, form));
  }
  const old = readResult(shapeResult(result, rowFor("0.1.0", "ADD")), "prevResult");
  deepEqual([old.ips.map((i) => i.address), old.routes.length], [["10.0.0.1/32", "fd00::1/128"], 2]);
});

Deno.test("readResult() refuses what cannot be a result", () => {
  for (const bad of [null, 7, [], { ips: {} }, { ips: [7] }, { ips: [{}] }, { routes: [{ gw: "x" }] }, { ip4: {} }]) {
    throws(() => readResult(bad as never, "prevResult"), Refusal, JSON.stringify(bad));
  }
});

Deno.test("rowFor() refuses a version that is unknown, and a verb that the version does not have", () => {
  const said = (version: string, verb: "ADD" | "CHECK" | "GC") => {
    try {
      rowFor(version, verb);
      return "";
    } catch (error) {
      return error instanceof Refusal && error.cniCode === 1 ? error.what : "another error";
    }
  };
  deepEqual(["", "0.1.0", "0.3.0", "1.1.0"].map((v) => said(v, "ADD")), ["", "", "", ""]);
  equal(said("0.9.0", "ADD"), "incompatible CNI versions");
  deepEqual(["0.3.1", "0.4.0"].map((v) => said(v, "CHECK")), ["config version does not allow CHECK", ""]);
  deepEqual(["1.0.0", "1.1.0"].map((v) => said(v, "GC")), ["config version does not allow GC", ""]);
});

Deno.test("appendResult() moves the interface numbers of the second result up", () => {
  const before: Result = { ...result, ips: [{ address: "192.0.2.1/24" }], dns: { domain: "a" } };
  const both = appendResult(before, result);
  deepEqual(both.ips.map((i) => i.interface), [undefined, 3, 3]);
  deepEqual([both.interfaces.length, both.dns], [4, { domain: "a" }]);
});

Deno.test("versionAnswer() gives the asked version back", () => {
  deepEqual([versionAnswer("0.4.0").cniVersion, versionAnswer(undefined).cniVersion], ["0.4.0", "1.1.0"]);
});
