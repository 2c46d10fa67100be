import assert from "node:assert/strict";
import { parseCidr } from "../../lib/ip.ts";
import type { PolicedEndpoint } from "../desired_policy.ts";
import { Claims } from "./claims.ts";

const workload = (id: string, interfaceName: string, ...nets: string[]): PolicedEndpoint => ({
  ...{ id, kind: "workload", interfaceName, nets: nets.map((net) => parseCidr(net)), profiles: [] },
  ...{ tiers: [], untrackedTiers: [], preDnatTiers: [], forwardTiers: [] },
});
const put = (claims: Claims, ...endpoints: PolicedEndpoint[]) => claims.update({ endpoints, endpointsRemoved: [] });

Deno.test("of two endpoints with one interface or address the later one is named, until one of them lets go", () => {
  const claims = new Claims();
  put(claims, workload("a", "cali1", "10.0.0.1/32"), workload("b", "cali1", "10.0.0.1/32", "10.0.0.2/32"));
  assert.deepEqual(Object.fromEntries(claims.conflicts()), {
    b: "address 10.0.0.1/32 is claimed by a, too; interface cali1 belongs to a",
  });
  put(claims, workload("c", "cali3", "10.0.0.2/32"));
  assert.deepEqual([...claims.conflicts().keys()], ["b", "c"]);
  put(claims, workload("b", "cali2", "10.0.0.2/32"));
  assert.deepEqual(Object.fromEntries(claims.conflicts()), { c: "address 10.0.0.2/32 is claimed by b, too" });
  claims.update({ endpoints: [], endpointsRemoved: ["b"] });
  assert.equal(claims.conflicts().size, 0);
});

Deno.test("host endpoints claim nothing, and an endpoint does not contest itself", () => {
  const claims = new Claims();
  put(
    claims,
    { ...workload("h1", "*", "10.0.0.1/32"), kind: "host" },
    workload("a", "cali1", "10.0.0.1/32", "10.0.0.1/32"),
  );
  put(claims, workload("a", "cali1", "10.0.0.1/32"));
  assert.equal(claims.conflicts().size, 0);
});
