import assert from "node:assert/strict";
import { isFelixParameter } from "./felix_parameters.ts";

Deno.test("Felix's parameters are known in any case, from fields and from the environment alone", () => {
  const known = [
    "IPV6SUPPORT",
    "HealthPort",
    "ipinipmtu",
    "IPTABLESLOCKPROBEINTERVALMILLIS",
    "TYPHAADDR",
    "ETCDENDPOINTS",
  ];
  for (const name of known) assert.ok(isFelixParameter(name), name);
  for (const name of ["", "HEALTHPRT", "IPTABLESLOCKPROBEINTERVAL", "NODENAME"]) {
    assert.ok(!isFelixParameter(name), name);
  }
});
