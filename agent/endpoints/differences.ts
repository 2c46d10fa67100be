import { formatIp, type Ip, sameIp } from "../../lib/ip.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Inspection } from "./inspection.ts";
import { addressesOf } from "./stored.ts";

/** What CHECK compares. */
export interface Compared {
  /** Undefined = etcd has none that is this container's. */
  endpoint: WorkloadEndpoint | undefined;
  actual: Inspection;
  netns: string;
  interfaceName: string;
  hostInterface: string;
  /** Addresses that ADD answered; undefined = those of the endpoint. */
  answered: Ip[] | undefined;
}

/**
 * What is not as ADD left it, one sentence each; empty = all is well. What others added is no difference: more addresses,
 * more routes, another MTU.
 */
export function differences(c: Compared): string[] {
  const { pod, host, netnsExists, paired } = c.actual;
  if (!netnsExists) return [`network namespace ${c.netns} does not exist`];
  const found: string[] = [];
  const stored = c.endpoint ? addressesOf(c.endpoint) : [];
  if (!c.endpoint) found.push("etcd has no workload endpoint of this container");
  for (const ip of c.answered ?? []) {
    if (c.endpoint && !holds(stored, ip)) found.push(`the workload endpoint does not have ${formatIp(ip)}`);
  }
  if (!pod) found.push(`interface ${c.interfaceName} does not exist in ${c.netns}`);
  if (!host) found.push(`host interface ${c.hostInterface} does not exist`);
  if (pod && host && !paired) found.push(`${c.interfaceName} and ${c.hostInterface} are not the ends of one pair`);
  if (pod && !pod.up) found.push(`interface ${c.interfaceName} is down`);
  if (host && !host.up) found.push(`host interface ${c.hostInterface} is down`);
  if (pod && c.endpoint?.spec.mac && pod.mac !== c.endpoint.spec.mac) {
    found.push(`${c.interfaceName} has MAC ${pod.mac}, not ${c.endpoint.spec.mac}`);
  }
  for (const ip of c.answered ?? stored) {
    if (pod && !holds(pod.addresses.map((a) => a.ip), ip)) found.push(`${c.interfaceName} lacks ${formatIp(ip)}`);
    if (pod && !pod.routes.some((r) => r.via?.v === ip.v)) found.push(`${c.interfaceName} has no IPv${ip.v} route`);
    if (host && !host.routes.some((r) => sameIp({ v: r.dst.v, n: r.dst.n }, ip))) {
      found.push(`the host has no route to ${formatIp(ip)} by ${c.hostInterface}`);
    }
  }
  return found;
}

const holds = (list: Ip[], ip: Ip): boolean => list.some((other) => sameIp(other, ip));
