import type { BGPConfigurationSpec } from "../datastore/kinds/bgp_configuration.ts";
import { bits, type Cidr, cidrOf, contains, type Family, formatCidr, tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";
import type { EndpointSlice, Findings, Service, Surroundings } from "./resources.ts";

/** What services add to the routes of one family; see FamilyInputs. */
export interface ServiceAddresses {
  serviceRoutes: string[];
  kernelRejects: string[];
  reflectorAccepts: string[];
}

/** The configured ranges of services. */
interface Ranges {
  cluster: Cidr[];
  external: Cidr[];
  loadBalancer: Cidr[];
}

/**
 * Addresses of services that this node announces, and those that BIRD keeps out of the kernel.
 * Ranges are announced by every node, except that single external and load balancer addresses, and all load balancer
 * ranges without aggregation, are announced service by service. Source: Calico confd client.go and routes.go.
 * DIFFERS: recalculated from all services and slices each time, so a slice that goes never withdraws a route that another
 * slice still justifies; a bad range is left out alone.
 * @param excluded the node carries the label that takes it out of load balancing: it announces nothing, but still keeps
 * the ranges out of its kernel.
 */
export function serviceAddresses(
  config: BGPConfigurationSpec,
  around: Surroundings,
  excluded: boolean,
  findings: Findings,
): Record<Family, ServiceAddresses> {
  const ranges = rangesOf(config, around, findings);
  const aggregate = (config.serviceLoadBalancerAggregation ?? "Enabled") === "Enabled";
  const several = (c: Cidr) => c.len < bits(c.v);
  const whole = [
    ...ranges.cluster,
    ...ranges.external.filter(several),
    ...(aggregate ? ranges.loadBalancer.filter(several) : []),
  ];
  const single = excluded ? [] : announcedServices(around, ranges, aggregate).flatMap((s) => addressesOf(s, ranges));
  const of = (v: Family): ServiceAddresses => {
    const texts = (list: Cidr[]) => [...new Set(list.filter((c) => c.v === v).map(formatCidr))].sort();
    return {
      serviceRoutes: texts(excluded ? [] : [...whole, ...single]),
      kernelRejects: texts(whole),
      reflectorAccepts: [...texts(ranges.loadBalancer), ...texts(ranges.external)],
    };
  };
  return { 4: of(4), 6: of(6) };
}

function rangesOf(config: BGPConfigurationSpec, around: Surroundings, findings: Findings): Ranges {
  const read = (list: { cidr?: string }[] | undefined, where: string) =>
    (list ?? []).flatMap(({ cidr = "" }, i) => {
      if (cidr === "") return [];
      const parsed = tryParseCidrOrIp(cidr);
      if (!parsed) findings.add(`"${cidr}" is not a network, it is not announced`, `${where}[${i}]`);
      return parsed ? [parsed] : [];
    });
  const field = (name: "serviceClusterIPs" | "serviceExternalIPs" | "serviceLoadBalancerIPs") =>
    read(config[name], `BGPConfiguration default, spec.${name}`);
  const given = around.env.CALICO_ADVERTISE_CLUSTER_IPS ?? "";
  return {
    cluster: given === ""
      ? field("serviceClusterIPs")
      : read(given.split(",").map((cidr) => ({ cidr: cidr.trim() })), "CALICO_ADVERTISE_CLUSTER_IPS"),
    external: field("serviceExternalIPs"),
    loadBalancer: field("serviceLoadBalancerIPs"),
  };
}

function announcedServices(around: Surroundings, ranges: Ranges, aggregate: boolean): Service[] {
  if (!around.kubernetes) return [];
  const slices = Map.groupBy(
    around.kubernetes.endpointSlices,
    (s) => `${s.metadata.namespace}/${s.metadata.labels?.["kubernetes.io/service-name"]}`,
  );
  const node = around.env.CALICO_K8S_NODE_REF || around.node;
  return around.kubernetes.services.filter((service) => {
    const own = slices.get(`${service.metadata.namespace}/${service.metadata.name}`);
    return own !== undefined && isAnnounced(service, own, ranges, aggregate, node);
  });
}

/** Whether this node announces the addresses of a service one by one. */
function isAnnounced(
  service: Service,
  slices: EndpointSlice[],
  ranges: Ranges,
  aggregate: boolean,
  node: string,
): boolean {
  const { spec } = service;
  if (!["ClusterIP", "NodePort", "LoadBalancer"].includes(spec.type ?? "")) return false;
  if (!spec.clusterIP || spec.clusterIP === "None") return false;
  const local = spec.externalTrafficPolicy === "Local";
  if (spec.externalTrafficPolicy === "Cluster" && hasSingleAddress(service, ranges)) return true;
  if (!local && aggregate) return false;
  return slices.some((slice) =>
    (spec.ipFamilies ?? []).includes(slice.addressType ?? "") &&
    (slice.endpoints ?? []).some((e) => e.conditions?.ready !== false && (!local || e.nodeName === node))
  );
}

/** True when an address of the service is configured by itself, as /32 or /128: then no range announces it. */
function hasSingleAddress(service: Service, ranges: Ranges): boolean {
  const { spec } = service;
  const isSingle = (list: Cidr[], text: string | undefined) => {
    const ip = tryParseIp(text ?? "");
    return ip !== undefined && list.some((c) => c.len === bits(c.v) && contains(c, ip));
  };
  const balanced = [spec.loadBalancerIP, ...(service.status?.loadBalancer?.ingress ?? []).map((i) => i.ip)];
  return spec.type === "LoadBalancer" && balanced.some((a) => isSingle(ranges.loadBalancer, a)) ||
    (spec.externalIPs ?? []).some((a) => isSingle(ranges.external, a));
}

/** The addresses of an announced service: cluster addresses when a cluster range is configured, others inside their ranges. */
function addressesOf(service: Service, ranges: Ranges): Cidr[] {
  const hosts = (texts: (string | undefined)[]) =>
    texts.map((t) => tryParseIp(t ?? "")).filter((ip) => ip !== undefined).map((ip) => cidrOf(ip, bits(ip.v)));
  const inside = (list: Cidr[], found: Cidr[]) => found.filter((ip) => list.some((c) => contains(c, ip)));
  const cluster = ranges.cluster.length > 0 ? hosts(service.spec.clusterIPs ?? []) : [];
  const balanced = hosts((service.status?.loadBalancer?.ingress ?? []).map((i) => i.ip));
  return [
    ...cluster,
    ...inside(ranges.external, hosts(service.spec.externalIPs ?? [])),
    ...inside(ranges.loadBalancer, balanced),
  ];
}
