import assert from "node:assert/strict";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import {
  hostStates,
  statusFile,
  statusFileName,
  type Workload,
  workloadKey,
  workloadState,
} from "./endpoint_states.ts";

const web: Workload = {
  key: "k",
  orchestrator: "k8s",
  workload: "shop/web-0",
  endpoint: "eth0",
  interfaceName: "cali1",
  mac: "ee:ee:ee:ee:ee:ee",
  nets: [parseCidr("10.65.0.2/32"), parseCidr("fd00::2/128")],
};

Deno.test("a workload is up when its interface is and nothing is missing in the kernel", () => {
  assert.equal(workloadState(web, true, undefined), "up");
  assert.equal(workloadState(web, true, "a route"), "down");
  assert.equal(workloadState(web, false, undefined), "down");
});

Deno.test("a workload's state is told under Felix's key, and its file has Felix's name and content", () => {
  assert.equal(
    workloadKey("n1", "", web),
    "/calico/felix/v2/no-region/host/n1/workload/k8s/shop%2fweb-0/endpoint/eth0",
  );
  assert.match(workloadKey("n1", "two", web), /^\/calico\/felix\/v2\/region-two\/host\//);
  assert.equal(statusFileName(web), "k8s shop%2Fweb-0 eth0");
  assert.equal(statusFileName({ ...web, workload: "a/b c:=!" }), "k8s a%2Fb%20c:=%21 eth0");
  assert.equal(
    statusFile(web),
    '{"ifaceName":"cali1","mac":"ee:ee:ee:ee:ee:ee","ipv4Nets":["10.65.0.2/32"],"ipv6Nets":["fd00::2/128"]}',
  );
  assert.equal(statusFile({ ...web, mac: "", nets: [] }), '{"ifaceName":"cali1"}');
});

Deno.test("host endpoints: error without an interface of their own, down while one is, * is up; a workload's interface is nobody's", () => {
  const endpoint = (name: string, interfaceName: string, ...ips: string[]) => ({
    ...{ id: `HostEndpoint:${name}`, name, interfaceName, nets: ips.map((ip) => parseCidr(ip)) },
  });
  const eth = (name: string, up: boolean, ...ips: string[]) => ({ name, up, addresses: ips.map((ip) => parseIp(ip)) });
  const interfaces = [
    ...[eth("eth0", true, "192.0.2.1"), eth("eth1", false, "192.0.2.2"), eth("eth2", true, "192.0.2.3")],
    eth("cali1", true, "192.0.2.4"),
  ];
  const states = hostStates(
    [
      endpoint("a", "eth0"),
      endpoint("b", "eth0"),
      endpoint("c", "", "192.0.2.2/32"),
      endpoint("d", "", "192.0.2.3/32"),
      endpoint("e", "eth9"),
      endpoint("f", "", "198.51.100.1/32"),
      endpoint("g", "*"),
      endpoint("h", "cali1"),
      endpoint("i", "", "192.0.2.4/32"),
    ],
    interfaces,
    ["cali"],
  );
  assert.deepEqual(Object.fromEntries(states), {
    ...{ a: "up", b: "error", c: "down", d: "up", e: "error", f: "error", g: "up", h: "error", i: "error" },
  });
});
