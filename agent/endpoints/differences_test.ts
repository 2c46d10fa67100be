import { deepEqual } from "node:assert/strict";
import { parseIp } from "../../lib/ip.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import { type Compared, differences } from "./differences.ts";

const ip = parseIp("10.0.0.1"), gateway = parseIp("169.254.1.1");
const side = { index: 1, kind: "veth", mtuBytes: 1500, up: true };
const pod = {
  ...{ ...side, mac: "02:00:00:00:00:01", addresses: [{ ip, len: 32 }] },
  routes: [{ dst: { v: 4 as const, n: 0n, len: 0 }, via: gateway }],
};
const host = { ...side, mac: "ee", addresses: [], routes: [{ dst: { ...ip, len: 32 }, via: undefined }] };
const endpoint = { spec: { ipNetworks: ["10.0.0.1/32"], mac: "02:00:00:00:00:01" } } as unknown as WorkloadEndpoint;
const whole: Compared = {
  ...{ endpoint, netns: "/n", interfaceName: "eth0", hostInterface: "cali1", answered: undefined },
  actual: { netnsExists: true, pod, host, paired: true },
};
const actual = (change: Partial<Compared["actual"]>): string[] =>
  differences({ ...whole, actual: { ...whole.actual, ...change } });

Deno.test("differences() finds none in an attachment as ADD left it, nor in what others added to it", () => {
  deepEqual(differences(whole), []);
  deepEqual(actual({ pod: { ...pod, mtuBytes: 9000, addresses: [...pod.addresses, { ip: gateway, len: 16 }] } }), []);
});

Deno.test("differences() says each thing that is missing or other", () => {
  deepEqual(actual({ netnsExists: false }), ["network namespace /n does not exist"]);
  deepEqual(actual({ pod: undefined, paired: false }), ["interface eth0 does not exist in /n"]);
  deepEqual(actual({ host: undefined, paired: false }), ["host interface cali1 does not exist"]);
  deepEqual(actual({ paired: false }), ["eth0 and cali1 are not the ends of one pair"]);
  deepEqual(actual({ pod: { ...pod, up: false } }), ["interface eth0 is down"]);
  deepEqual(actual({ host: { ...host, up: false } }), ["host interface cali1 is down"]);
  deepEqual(actual({ pod: { ...pod, mac: "x" } }), ["eth0 has MAC x, not 02:00:00:00:00:01"]);
  deepEqual(actual({ pod: { ...pod, addresses: [] } }), ["eth0 lacks 10.0.0.1"]);
  deepEqual(actual({ pod: { ...pod, routes: [] } }), ["eth0 has no IPv4 route"]);
  deepEqual(actual({ host: { ...host, routes: [] } }), ["the host has no route to 10.0.0.1 by cali1"]);
  deepEqual(differences({ ...whole, endpoint: undefined }), ["etcd has no workload endpoint of this container"]);
  deepEqual(differences({ ...whole, answered: [parseIp("10.0.0.2")] }).length, 3);
});
