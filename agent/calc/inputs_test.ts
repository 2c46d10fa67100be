import assert from "node:assert/strict";
import { pod, resource } from "../../tests/random_policy.ts";
import { understand } from "./inputs.ts";

Deno.test("an endpoint whose interface cannot be one, or would be many to iptables, is refused by name", () => {
  for (const interfaceName of ["cali+", "cali 1", "", "cali1\n-F", "cali0123456789ab", 'a"b']) {
    const { input, problems } = understand(pod("a", "n1", {}, ["10.0.0.1/32"], { interfaceName }));
    assert.equal(input, undefined);
    assert.match(problems.join(), /spec\.interfaceName: .* cannot be an interface's name/s);
  }
  const host = (interfaceName: string | undefined) =>
    understand(resource("HostEndpoint", "h", undefined, { node: "n1", interfaceName }));
  for (const name of [undefined, "", "*", "eth0.100", "br-1@x"]) assert.deepEqual(host(name).problems, []);
  assert.equal(host("eth+").input, undefined);
});
