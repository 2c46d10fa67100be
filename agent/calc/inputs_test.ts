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

Deno.test("limits of packets and connections are read; what is no positive number limits nothing and is told", () => {
  const of = (qosControls: unknown) => {
    const { input, problems } = understand(
      pod("a", "n1", {}, ["10.0.0.1/32"], { interfaceName: "cali1", qosControls }),
    );
    return { limits: (input as { limits?: unknown }).limits, problems };
  };
  const none = { packetsPerS: undefined, packetBurst: undefined, connections: undefined };
  assert.deepEqual(of({ ingressPacketRate: 100, ingressPacketBurst: 10, egressMaxConnections: 4294967295 }), {
    limits: { ingress: { ...none, packetsPerS: 100, packetBurst: 10 }, egress: { ...none, connections: 4294967295 } },
    problems: [],
  });
  for (const nothing of [undefined, {}, { ingressBandwidth: 1000 }]) {
    assert.deepEqual(of(nothing), { limits: undefined, problems: [] });
  }
  assert.deepEqual(of({ ingressPacketRate: -1, egressBurst: "x" }), {
    limits: undefined,
    problems: [
      "spec.qosControls.ingressPacketRate: -1 is not a positive number",
      'spec.qosControls.egressBurst: "x" is not a positive number',
    ],
  });
});
