/**
 * Calico's older in-memory model ("v1") of what our calculation makes of an object: the cases have that form, so that
 * meanings can be compared without a second model in the program.
 */
import type { PolicyInput, ProfileInput, SubjectInput, TierInput } from "../../../agent/calc/inputs.ts";
import { asCalicoPolicy, policySelectorText, understand } from "../../../agent/calc/inputs.ts";
import { type SetSource, sideSelectorText, type StoredRule, type StoredSide } from "../../../agent/calc/rule_input.ts";
import type { PortRange, Rule, SetId, SideMatch } from "../../../agent/desired_policy.ts";
import { encodeResource } from "../../../datastore/codec.ts";
import type { Resource } from "../../../datastore/kind.ts";
import type { WorkloadEndpoint } from "../../../datastore/kinds/workload_endpoint.ts";
import { resourceKey } from "../../../datastore/keys.ts";
import { escapePart, parseEndpointName } from "../../../datastore/names.ts";
import { encapsulationOf } from "../../../ipam/pools/encapsulation.ts";
import { decodePool } from "../../../ipam/pools/pool.ts";
import { formatCidr, formatIp, formatMac, tryParseCidrOrIp, tryParseIp, tryParseMac } from "../../../lib/ip.ts";
import type { Json } from "../../../lib/json64.ts";
import { bgpNodeModel, felixModel, nodeModel } from "./_v1_config.ts";

type Members = Record<string, Json>;

/** Key and value of the v1 model; null = deleted or absent. */
export type V1 = [key: string, value: Json | null];

/** What an object becomes, and whether Calico reports an error beside it. */
export type V1Answer = V1[] | { kvs: V1[]; error: boolean };

/** What each kind becomes; a kind that is missing here is not mapped. */
export const models: Record<string, (resource: Resource, deleted: boolean) => V1Answer> = {
  FelixConfiguration: felixModel,
  Node: nodeModel,
  BGPNode: bgpNodeModel,
  NetworkPolicy: policyModel,
  StagedKubernetesNetworkPolicy: policyModel,
  GlobalNetworkPolicy: policyModel,
  StagedNetworkPolicy: policyModel,
  StagedGlobalNetworkPolicy: policyModel,
  Tier: tierModel,
  Profile: profileModel,
  NetworkSet: networkSetModel,
  GlobalNetworkSet: networkSetModel,
  WorkloadEndpoint: endpointModel,
  HostEndpoint: hostEndpointModel,
  IPPool: poolModel,
};

function policyModel(resource: Resource, deleted: boolean): V1[] {
  const { kind, metadata } = resource;
  const { spec } = asCalicoPolicy(resource);
  const key = `/calico/v1/policy/${kind}/${metadata.namespace ?? ""}/${metadata.name}`;
  const policy = deleted ? undefined : understand(resource).input as PolicyInput | undefined;
  if (!policy) return [[key, null]];
  const rules = (list: unknown, read: Rule[]) =>
    read.map((rule, i) =>
      ruleModel((list as StoredRule[] | undefined)?.[i] ?? {}, rule, policy.sets, policy.namespace)
    );
  const types = spec.types as string[];
  return [[
    key,
    withoutEmpty({
      namespace: policy.namespace,
      tier: policy.tier,
      order: policy.order,
      inbound_rules: rules(spec.ingress, policy.ingress),
      outbound_rules: rules(spec.egress, policy.egress),
      untracked: policy.doNotTrack,
      pre_dnat: policy.preDnat,
      apply_on_forward: policy.applyOnForward,
      // The order of the words means nothing; the set does.
      types: types.map((t) => t.toLowerCase()).filter((t) => policy.directions.has(t as "ingress" | "egress")),
      performance_hints: policy.performanceHints,
      staged_action: policy.staged ? (spec.stagedAction as string) : undefined,
    }, { selector: policySelectorText(spec, policy.namespace) }),
  ]];
}

function ruleModel(stored: StoredRule, rule: Rule, sets: ReadonlyMap<SetId, SetSource>, namespace: string): Members {
  return withoutEmpty({
    action: rule.action === "pass" ? "next-tier" : rule.action,
    ip_version: rule.ipVersion,
    protocol: rule.protocol,
    "!protocol": rule.notProtocol,
    icmp_type: rule.icmp?.type,
    icmp_code: rule.icmp?.code,
    ...sideModel("src", stored.source, rule.source, rule.words.source, sets, namespace),
    ...sideModel("dst", stored.destination, rule.destination, rule.words.destination, sets, namespace),
    metadata: rule.annotations ? { annotations: rule.annotations } : undefined,
  });
}

function sideModel(
  side: "src" | "dst",
  stored: StoredSide = {},
  match: SideMatch,
  words: Rule["words"]["source"],
  sets: ReadonlyMap<SetId, SetSource>,
  namespace: string,
): Record<string, Json | undefined> {
  const named = (ids: SetId[]) => ids.map((id) => (sets.get(id) as { port: string }).port);
  return {
    [`${side}_nets`]: match.nets.map(formatCidr),
    [`!${side}_nets`]: match.notNets.map(formatCidr),
    [`${side}_selector`]: sideSelectorText(stored, namespace),
    [`!${side}_selector`]: words.notSelector,
    [`${side}_ports`]: [...match.ports.map(portModel), ...named(match.namedPortSets)],
    [`!${side}_ports`]: [...match.notPorts.map(portModel), ...named(match.notNamedPortSets)],
    [`${side}_service`]: words.services?.name,
    [`${side}_service_ns`]: words.services?.namespace,
    [`orig_${side}_selector`]: words.selector,
    [`!orig_${side}_selector`]: words.notSelector,
    [`orig_${side}_namespace_selector`]: words.namespaceSelector,
    [`orig_${side}_service_acct_names`]: words.serviceAccounts?.names,
    [`orig_${side}_service_acct_selector`]: words.serviceAccounts?.selector,
  };
}

const portModel = ({ min, max }: PortRange): Json => (min === max ? min : `${min}:${max}`);

function tierModel(resource: Resource, deleted: boolean): V1[] {
  const key = `/calico/v1/policy/tier/${resource.metadata.name}/metadata`;
  if (deleted) return [[key, null]];
  const tier = understand(resource).input as TierInput;
  return [[key, withoutEmpty({ order: tier.order, defaultAction: tier.defaultAction })]];
}

function profileModel(resource: Resource, deleted: boolean): V1[] {
  const { name } = resource.metadata;
  const own: V1 = [`/calico/resources/v3/projectcalico.org/profiles/${name}`, deleted ? null : "<the v3 object>"];
  const base = `/calico/v1/policy/profile/${name}`;
  if (deleted) return [own, [`${base}/labels`, null], [`${base}/rules`, null]];
  const profile = understand(resource).input as ProfileInput;
  const rules = (list: unknown, read: Rule[]) =>
    read.map((rule, i) => ruleModel((list as StoredRule[] | undefined)?.[i] ?? {}, rule, profile.sets, ""));
  const { ingress, egress } = resource.spec;
  return [
    own,
    [`${base}/labels`, profile.labels.size > 0 ? Object.fromEntries(profile.labels) : null],
    [
      `${base}/rules`,
      withoutEmpty({
        inbound_rules: rules(ingress, profile.ingress),
        outbound_rules: rules(egress, profile.egress),
      }),
    ],
  ];
}

function networkSetModel(resource: Resource, deleted: boolean): V1[] {
  const { name, namespace } = resource.metadata;
  const key = `/calico/v1/netset/${escapePart(namespace ? `${namespace}/${name}` : name)}`;
  if (deleted) return [[key, null]];
  const set = understand(resource).input as SubjectInput;
  return [[
    key,
    withoutEmpty({
      nets: set.nets.map(formatCidr),
      labels: Object.fromEntries(set.labels),
      profile_ids: set.parents,
    }),
  ]];
}

/** An endpoint whose addresses or MAC cannot be read counts as absent. */
function endpointModel(resource: Resource, deleted: boolean): V1[] {
  const { name, namespace, generateName, annotations } = resource.metadata;
  const spec = resource.spec as WorkloadEndpoint["spec"];
  const id = parseEndpointName(name)!;
  const workload = escapePart(`${namespace}/${id.pod ?? id.containerID ?? id.workload}`);
  const key = `/calico/v1/host/${id.node}/workload/${id.orchestrator}/${workload}/endpoint/${id.endpoint}`;
  const endpoint = deleted ? undefined : understand(resource).input as SubjectInput | undefined;
  const mac = spec.mac ? tryParseMac(spec.mac) : undefined;
  if (!endpoint || spec.mac && !mac) return [[key, null]];
  const nets = (v: 4 | 6) => endpoint.nets.filter((n) => n.v === v).map(formatCidr);
  const nats = (v: 4 | 6) =>
    (spec.ipNATs ?? []).map(({ internalIP, externalIP }) => [tryParseIp(internalIP), tryParseIp(externalIP)])
      .filter(([inside, outside]) => inside?.v === v && outside)
      .map(([inside, outside]) => ({ int_ip: formatIp(inside!), ext_ip: formatIp(outside!) }));
  return [[
    key,
    withoutEmpty({
      ipv4_nat: nats(4),
      ipv6_nat: nats(6),
      ipv4_gateway: spec.ipv4Gateway,
      ipv6_gateway: spec.ipv6Gateway,
      // A port without a name is for the plugin alone.
      ports: endpoint.ports.filter((port) => port.name !== ""),
      generate_name: generateName,
      allow_spoofed_source_ips: spec.allowSpoofedSourcePrefixes?.map((p) => formatCidr(tryParseCidrOrIp(p)!)),
      annotations,
      qosControls: spec.qosControls,
    }, {
      state: "active",
      name: endpoint.interfaceName,
      active_instance_id: "",
      mac: mac ? formatMac(mac) : null,
      profile_ids: orNull(endpoint.parents),
      ipv4_nets: orNull(nets(4)),
      ipv6_nets: orNull(nets(6)),
      labels: Object.fromEntries(endpoint.labels),
    }),
  ]];
}

/** A host endpoint; a deleted one says no more where it was. */
function hostEndpointModel(resource: Resource, deleted: boolean): V1[] {
  if (deleted) return [];
  const endpoint = understand(resource).input as SubjectInput;
  const addresses = (v: 4 | 6) => endpoint.nets.filter((n) => n.v === v).map((n) => formatCidr(n).split("/")[0]!);
  return [[
    `/calico/v1/host/${endpoint.node}/endpoint/${resource.metadata.name}`,
    withoutEmpty({
      name: endpoint.interfaceName,
      expected_ipv4_addrs: addresses(4),
      expected_ipv6_addrs: addresses(6),
      profile_ids: endpoint.parents,
      ports: endpoint.ports,
    }, { labels: endpoint.labels.size > 0 ? Object.fromEntries(endpoint.labels) : null }),
  ]];
}

/** @throws Problem when the pool cannot be used. */
function poolModel(resource: Resource, deleted: boolean): V1[] {
  const key = resourceKey("IPPool", resource.metadata.name);
  const pool = decodePool({ key, value: encodeResource(resource), revision: 1n, created: 1n });
  const { kind, crossSubnet } = encapsulationOf(pool);
  const mode = (of: "ipip" | "vxlan") => (kind !== of ? "" : crossSubnet ? "cross-subnet" : "always");
  const at = `/calico/v1/ipam/v${pool.cidr.v}/pool/${formatCidr(pool.cidr).replace("/", "-")}`;
  return [[
    at,
    deleted ? null : {
      cidr: formatCidr(pool.cidr),
      ipip: kind === "ipip" ? "tunl0" : "",
      ipip_mode: mode("ipip"),
      vxlan_mode: mode("vxlan"),
      masquerade: resource.spec.natOutgoing === true,
      ipam: pool.enabled,
      disabled: resource.spec.disabled === true,
      disableBGPExport: resource.spec.disableBGPExport === true,
      assignment_mode: pool.manual ? "Manual" : "Automatic",
    },
  ]];
}

const orNull = (list: string[]): Json => (list.length > 0 ? list : null);

/** The members that say something, and those of `always`. */
function withoutEmpty(members: Record<string, unknown>, always: Members = {}): Members {
  const says = (v: unknown) => v !== undefined && v !== "" && v !== false && !(Array.isArray(v) && v.length === 0);
  return { ...Object.fromEntries(Object.entries(members).filter(([, v]) => says(v))) as Members, ...always };
}
