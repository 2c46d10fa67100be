import { type Cidr, tryParseCidrOrIp } from "../../lib/ip.ts";
import { messageOf } from "../../lib/problem.ts";
import { isObject } from "../../lib/json64.ts";
import type { Resource } from "../../datastore/kind.ts";
import { calicoPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import { parseSelector, type Selector } from "../../datastore/selector/index.ts";
import type { Direction, PolicedEndpoint, Rule, SetId, TrafficLimits } from "../desired_policy.ts";
import { matchAll, parseRule, type SetSource, type StoredRule, withPrefix } from "./rule_input.ts";
import type { NamedPort } from "./set_members.ts";

/** An endpoint or network set: what selectors look at and what sets are filled from. */
export interface SubjectInput {
  is: "workload" | "host" | "networkSet";
  id: string;
  /** Node of an endpoint. */
  node?: string;
  labels: Map<string, string>;
  /** Profiles whose labels are inherited, in order. */
  parents: string[];
  nets: Cidr[];
  ports: NamedPort[];
  interfaceName: string;
  limits?: PolicedEndpoint["limits"];
  /** A network set of which not all networks could be read. */
  partial?: true;
}

/** A policy of any kind. */
export interface PolicyInput {
  is: "policy";
  id: string;
  kind: string;
  namespace: string;
  name: string;
  tier: string;
  order: number | undefined;
  staged: boolean;
  selector: Selector;
  directions: ReadonlySet<Direction>;
  ingress: Rule[];
  egress: Rule[];
  sets: Map<SetId, SetSource>;
  doNotTrack: boolean;
  preDnat: boolean;
  applyOnForward: boolean;
  performanceHints: string[];
}

/** A profile: labels for its members, and rules. */
export interface ProfileInput {
  is: "profile";
  id: string;
  name: string;
  labels: Map<string, string>;
  ingress: Rule[];
  egress: Rule[];
  sets: Map<SetId, SetSource>;
}

/** A tier. */
export interface TierInput {
  is: "tier";
  id: string;
  name: string;
  order: number | undefined;
  defaultAction: "Deny" | "Pass";
}

/** One EndpointSlice of a service: what it gives to the service's sets. */
export interface SliceInput {
  is: "slice";
  id: string;
  /** `namespace/name`. */
  service: string;
  addresses: Cidr[];
  ports: NamedPort[];
}

/** Everything the calculation knows how to use. */
export type Input = SubjectInput | PolicyInput | ProfileInput | TierInput | SliceInput;

/** A resource as an input, and what in it could not be understood. `absent`: it counts as not there. */
export interface Understood {
  id: string;
  input?: Input;
  absent?: boolean;
  problems: string[];
}

/** `Kind:namespace/name` or `Kind:name`: name of a resource inside the calculation. */
export function idOf(resource: { kind: string; metadata: { name: string; namespace?: string } }): string {
  const { name, namespace } = resource.metadata;
  return namespace ? `${resource.kind}:${namespace}/${name}` : `${resource.kind}:${name}`;
}

type Reader = (resource: Resource, id: string, problems: string[]) => Input | undefined;

const readers: Record<string, Reader> = {
  WorkloadEndpoint: workload,
  HostEndpoint: hostEndpoint,
  NetworkSet: networkSet,
  GlobalNetworkSet: networkSet,
  NetworkPolicy: policy,
  GlobalNetworkPolicy: policy,
  StagedNetworkPolicy: policy,
  StagedGlobalNetworkPolicy: policy,
  StagedKubernetesNetworkPolicy: policy,
  Profile: profile,
  Tier: tier,
  /** As Kubernetes calls it, and as it is called in etcd. */
  EndpointSlice: slice,
  KubernetesEndpointSlice: slice,
};

/** True for kinds that the calculation uses. */
export const isUsed = (kind: string): boolean => kind in readers;

/**
 * Reads a resource. With problems and an input: the input is a safe reading of it (it denies more, never less). With
 * problems and no input: nothing of it can be used.
 */
export function understand(resource: Resource): Understood {
  const id = idOf(resource);
  const problems: string[] = [];
  try {
    const input = readers[resource.kind]!(resource, id, problems);
    return input ? { id, input, problems } : { id, absent: true, problems };
  } catch (error) {
    return { id, problems: [...problems, messageOf(error)] };
  }
}

/**
 * Workload endpoint. Labels that begin with `pcns.` or `pcsa.` are dropped: an endpoint cannot claim its namespace's.
 * Without addresses it counts as absent. Source: Calico's workloadendpointprocessor.go.
 */
function workload(resource: Resource, id: string, problems: string[]): SubjectInput | undefined {
  const spec = objectAt(resource.spec, "spec");
  const labels = labelsOf(resource.metadata.labels);
  for (const label of [...labels.keys()]) if (/^pc(ns|sa)\./.test(label)) labels.delete(label);
  const account = spec.serviceAccountName;
  if (typeof account === "string" && account) labels.set("projectcalico.org/serviceaccount", account);
  const nets = netsOf(spec.ipNetworks, "spec.ipNetworks");
  if (nets.length === 0) return undefined;
  return {
    is: "workload",
    id,
    node: text(spec.node, "spec.node"),
    labels,
    parents: texts(spec.profiles, "spec.profiles"),
    nets,
    ports: portsOf(spec.ports),
    interfaceName: interfaceOf(spec.interfaceName),
    ...limitsOf(spec.qosControls, problems),
  };
}

/** Limits of packets and connections. One that cannot be read does not limit, and is told; so are those of bandwidth. */
function limitsOf(controls: unknown, problems: string[]): Pick<SubjectInput, "limits"> {
  if (!isObject(controls)) return {};
  const number = (field: string): number | undefined => {
    const value = controls[field];
    if (value === undefined || value === null || value === 0) return undefined;
    if ((typeof value === "number" || typeof value === "bigint") && value > 0) return Number(value);
    problems.push(`spec.qosControls.${field}: ${JSON.stringify(value)} is not a positive number`);
    return undefined;
  };
  const of = (direction: Direction): TrafficLimits => ({
    packetsPerS: number(`${direction}PacketRate`),
    packetBurst: number(`${direction}PacketBurst`),
    connections: number(`${direction}MaxConnections`),
  });
  const limits = { ingress: of("ingress"), egress: of("egress") };
  for (const field of ["Bandwidth", "Burst", "Peakrate", "Minburst"]) {
    for (const direction of ["ingress", "egress"]) number(direction + field);
  }
  const any = Object.values(limits).some((l) => l.packetsPerS ?? l.connections);
  return any ? { limits } : {};
}

/** Host endpoint; expectedIPs that cannot be read are skipped, as in Calico's hostendpointprocessor.go. */
function hostEndpoint(resource: Resource, id: string, problems: string[]): SubjectInput {
  const spec = objectAt(resource.spec, "spec");
  const interfaceName = optionalText(spec.interfaceName, "spec.interfaceName");
  const nets: Cidr[] = [];
  for (const ip of texts(spec.expectedIPs, "spec.expectedIPs")) {
    const net = tryParseCidrOrIp(ip);
    if (net) nets.push(net);
    else problems.push(`spec.expectedIPs: "${ip}" is not an address`);
  }
  return {
    is: "host",
    id,
    node: text(spec.node, "spec.node"),
    labels: labelsOf(resource.metadata.labels),
    parents: texts(spec.profiles, "spec.profiles"),
    nets,
    ports: portsOf(spec.ports),
    interfaceName: ["", "*"].includes(interfaceName) ? interfaceName : interfaceOf(interfaceName),
  };
}

/**
 * Network set of a namespace (which inherits the namespace's labels) or of the cluster. DIFFERS: Calico leaves networks out
 * that it cannot read, with what a Deny by them denies; see partial_sets.ts.
 */
function networkSet(resource: Resource, id: string, problems: string[]): SubjectInput {
  const labels = labelsOf(resource.metadata.labels);
  const namespace = resource.metadata.namespace;
  if (namespace) labels.set("projectcalico.org/namespace", namespace);
  const nets: Cidr[] = [];
  for (const entry of texts(objectAt(resource.spec ?? {}, "spec").nets, "spec.nets")) {
    const net = tryParseCidrOrIp(entry);
    if (net) nets.push(net);
    else problems.push(`spec.nets: "${entry}" is not a network`);
  }
  const parents = namespace ? [`kns.${namespace}`] : [];
  const partial = problems.length > 0 ? { partial: true as const } : {};
  return { is: "networkSet", id, labels, parents, nets, ports: [], interfaceName: "", ...partial };
}

function tier(resource: Resource, id: string): TierInput {
  const spec = objectAt(resource.spec ?? {}, "spec");
  return {
    is: "tier",
    id,
    name: resource.metadata.name,
    order: orderOf(spec.order),
    defaultAction: spec.defaultAction === "Pass" ? "Pass" : "Deny",
  };
}

function profile(resource: Resource, id: string, problems: string[]): ProfileInput {
  const spec = objectAt(resource.spec ?? {}, "spec");
  const sets = new Map<SetId, SetSource>();
  const rules = (list: unknown, path: string) => rulesOf(list, "", path, sets, problems);
  return {
    is: "profile",
    id,
    name: resource.metadata.name,
    labels: labelsOf(spec.labelsToApply),
    ingress: rules(spec.ingress, "spec.ingress"),
    egress: rules(spec.egress, "spec.egress"),
    sets,
  };
}

/**
 * Policy. DIFFERS: one whose selector cannot be understood denies everything in its directions for its whole scope
 * (its namespace, or all endpoints); Calico drops the unreadable part, so that the policy selects more than was written
 * with its Allow rules in force, or drops the policy with its Deny rules.
 */
function policy(resource: Resource, id: string, problems: string[]): PolicyInput | undefined {
  const calico = asCalicoPolicy(resource);
  problems.push(...calico.problems);
  const spec = objectAt(calico.spec, "spec");
  const namespace = resource.metadata.namespace ?? "";
  const staged = resource.kind.startsWith("Staged");
  if (staged && spec.stagedAction === "Delete") return undefined;
  const sets = new Map<SetId, SetSource>();
  const rules = (list: unknown, path: string) => rulesOf(list, namespace, path, sets, problems);
  const read: PolicyInput = {
    is: "policy",
    id,
    kind: resource.kind,
    namespace,
    name: resource.metadata.name,
    tier: typeof spec.tier === "string" && spec.tier ? spec.tier : "default",
    order: orderOf(spec.order),
    staged,
    selector: parseSelector(namespace ? `projectcalico.org/namespace == '${namespace}'` : ""),
    directions: directionsOf(spec.types),
    ingress: rules(spec.ingress, "spec.ingress"),
    egress: rules(spec.egress, "spec.egress"),
    sets,
    doNotTrack: spec.doNotTrack === true,
    preDnat: spec.preDNAT === true,
    applyOnForward: spec.applyOnForward === true,
    performanceHints: texts(spec.performanceHints, "spec.performanceHints"),
  };
  try {
    return { ...read, selector: parseSelector(policySelectorText(spec, namespace)) };
  } catch (error) {
    problems.push(`spec.selector: ${messageOf(error)}`);
    return { ...read, ingress: [matchAll("deny")], egress: [matchAll("deny")], sets: new Map() };
  }
}

/**
 * The spec of a policy in Calico's words: that of a StagedKubernetesNetworkPolicy is Kubernetes' own and converted, parts
 * that cannot be allow nothing. Source: Calico's stagedkubernetesnetworkpolicyprocessor.go.
 */
export function asCalicoPolicy({ kind, metadata, spec }: Resource): { spec: Resource["spec"]; problems: string[] } {
  if (kind !== "StagedKubernetesNetworkPolicy") return { spec: spec ?? {}, problems: [] };
  const { name, namespace } = metadata;
  const { policy, problems } = calicoPolicyOf({ metadata: { name, namespace }, spec });
  return { spec: { ...policy.spec, stagedAction: spec.stagedAction }, problems };
}

/**
 * One selector from a policy's selector, namespaceSelector and serviceAccountSelector. In a global policy every `all()`
 * of the text comes to mean "in a namespace" (or "with a service account") once such a selector is given.
 * Source: Calico's networkpolicyprocessor.go and globalnetworkpolicyprocessor.go.
 */
export function policySelectorText(spec: Record<string, unknown>, namespace: string): string {
  let selector = optionalText(spec.selector, "spec.selector");
  if (namespace) {
    const inNamespace = `projectcalico.org/namespace == '${namespace}'`;
    selector = selector ? `(${selector}) && ${inNamespace}` : inNamespace;
  } else {
    selector = joinPrefixed(selector, optionalText(spec.namespaceSelector, "spec.namespaceSelector"), "pcns.");
    if (spec.namespaceSelector) selector = selector.replaceAll("all()", "has(projectcalico.org/namespace)");
  }
  selector = joinPrefixed(selector, optionalText(spec.serviceAccountSelector, "spec.serviceAccountSelector"), "pcsa.");
  if (!namespace && spec.serviceAccountSelector) {
    selector = selector.replaceAll("all()", "has(projectcalico.org/serviceaccount)");
  }
  return selector;
}

function joinPrefixed(selector: string, more: string, prefix: string): string {
  if (!more) return selector;
  const prefixed = withPrefix(more, prefix);
  return selector ? `(${selector}) && ${prefixed}` : prefixed;
}

/** Old values without types apply in both directions. */
function directionsOf(types: unknown): Set<Direction> {
  const named = texts(types, "spec.types").map((t) => t.toLowerCase());
  if (named.length === 0) return new Set(["ingress", "egress"]);
  return new Set(named.filter((t) => t === "ingress" || t === "egress"));
}

function rulesOf(
  list: unknown,
  namespace: string,
  path: string,
  sets: Map<SetId, SetSource>,
  problems: string[],
): Rule[] {
  const rules: Rule[] = [];
  for (const [i, stored] of arrayAt(list, path).entries()) {
    const { parsed, problem } = parseRule(objectAt(stored, `${path}[${i}]`) as StoredRule, namespace);
    if (problem) problems.push(`${path}[${i}]: ${problem}`);
    // The place stays taken, so that the numbers of the other rules are those of the object.
    rules.push(parsed?.rule ?? { ...matchAll("log"), never: true });
    for (const [id, source] of parsed?.sets ?? []) sets.set(id, source);
  }
  return rules;
}

/** EndpointSlice: addresses of endpoints, ready or not. Source: Calico's felix/serviceindex. */
function slice(resource: Resource, id: string): SliceInput | undefined {
  const service = resource.metadata.labels?.["kubernetes.io/service-name"];
  if (!service) return undefined;
  const addresses = arrayAt(resource.endpoints, "endpoints").flatMap((e) =>
    netsOf(objectAt(e, "endpoints").addresses, "endpoints.addresses")
  );
  return {
    is: "slice",
    id,
    service: `${resource.metadata.namespace ?? ""}/${service}`,
    addresses,
    ports: portsOf(resource.ports),
  };
}

function portsOf(list: unknown): NamedPort[] {
  const ports: NamedPort[] = [];
  for (const entry of arrayAt(list, "ports")) {
    const { name, protocol, port } = objectAt(entry, "ports");
    const p = String(protocol ?? "TCP").toLowerCase();
    if (typeof port !== "number" || (p !== "tcp" && p !== "udp" && p !== "sctp")) continue;
    ports.push({ name: typeof name === "string" ? name : "", protocol: p, port });
  }
  return ports;
}

function netsOf(list: unknown, path: string): Cidr[] {
  return texts(list, path).map((entry) => {
    const net = tryParseCidrOrIp(entry);
    if (!net) throw new Error(`${path}: "${entry}" is not an address or network`);
    return net;
  });
}

/** A name that the kernel takes and that means one interface to iptables: there `cali+` is every one that begins so. */
function interfaceOf(value: unknown): string {
  const name = text(value, "spec.interfaceName");
  if (/^[\w.@%^=~,-]{1,15}$/.test(name)) return name;
  throw new Error(`spec.interfaceName: "${name}" cannot be an interface's name`);
}

function labelsOf(value: unknown): Map<string, string> {
  const labels = new Map<string, string>();
  for (const [name, label] of Object.entries(objectAt(value ?? {}, "labels"))) {
    if (typeof label === "string") labels.set(name, label);
  }
  return labels;
}

function orderOf(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number" && !Number.isNaN(value)) return value;
  if (typeof value === "bigint") return Number(value);
  throw new Error(`spec.order: ${String(value)} is not a number`);
}

function objectAt(value: unknown, path: string): Record<string, unknown> {
  if (isObject(value)) return value;
  throw new Error(`${path} is not an object`);
}

function arrayAt(value: unknown, path: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw new Error(`${path} is not a list`);
}

function texts(value: unknown, path: string): string[] {
  return arrayAt(value, path).map((entry) => text(entry, path));
}

function text(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  throw new Error(`${path}: ${JSON.stringify(value) ?? "nothing"} is not a text`);
}

const optionalText = (value: unknown, path: string): string => (value === undefined ? "" : text(value, path));
