import { formatIp, hostCidr, type Ip, tryParseNet } from "../lib/ip.ts";
import { isObject, type Json, writeJson } from "../lib/json64.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { KubernetesClient } from "../datastore/kubernetes/client.ts";
import { isOwnNetns } from "../kernel/netns.ts";
import type { Added, AddRequest } from "../agent/endpoints/request.ts";
import { type Call, type CniDeps, isOurIpam } from "./call.ts";
import { checkNode, mtuOf, waitForGates } from "./conditions.ts";
import { anyPodCidrs, delegate, hostLocalRoutes, needsPodCidrs, podCidrsOf, withPodCidrs } from "./delegate.ts";
import { kubernetesOf, podFacts } from "./cluster.ts";
import { annotationProblems, interfacePrefix, type PodFacts, podRequest } from "./pod.ts";
import { checkFailed, codes, gcIncomplete, Refusal } from "./refusal.ts";
import { endpointIdentity, plainRequest, type Wanted } from "./request.ts";
import { containerInterfaceName, podInterfaceName } from "../datastore/names.ts";
import { appendResult, readResult, type Result, shapeResult } from "./versions.ts";

/** A verb of the main plugin: what to print, "" for nothing. @throws Problem or Refusal. */
export type Verb = (call: Call, deps: CniDeps) => Promise<string>;

/** podRequest(), with a word about what in the annotations is not followed as it stands. */
async function podWishes(call: Call, { clock, log }: CniDeps, facts: PodFacts, mtu: number): Promise<Wanted> {
  const { namespace, name } = facts.pod?.metadata ?? {};
  for (const why of annotationProblems(facts)) {
    log.warn("annotation of a pod is not followed as it stands", { of: `${namespace}/${name}`, why });
  }
  return await podRequest(call, facts, clock.now(), mtu);
}

/** ADD: an address, a link, an endpoint, and the kernel as the endpoint needs it. */
export const add: Verb = async (call, deps) => {
  const { config } = call;
  checkNode(call, deps);
  const mtu = mtuOf(call, deps);
  refuseNetns(call);
  const before = config.prevResult === undefined ? undefined : readResult(config.prevResult, "prevResult");
  await waitForGates(config.readiness_gates, deps.clock, call.asked?.signal);
  const client = call.ids.orchestrator === "k8s" ? await kubernetesOf(call, deps) : undefined;
  const wanted = client
    ? await podWishes(call, deps, await podFacts(call, deps, client), mtu)
    : plainRequest(call, deps.clock.now(), mtu);
  const { request, answer, giveBack } = await withAddresses(call, deps, client, wanted);
  let added: Added;
  try {
    added = await deps.lifecycle.add(request, call.asked);
  } catch (error) {
    await giveBack();
    throw error;
  }
  const ours = resultOf(call, added, wanted.answersRoutes, mtu, answer);
  return print(shapeResult(before ? appendResult(before, ours) : ours, call.form));
};

/** DEL: everything of the attachment, whether it is there or not; without etcd the journal takes it. */
export const del: Verb = async (call, deps) => {
  isHostsNetns(call);
  await deps.lifecycle.remove({
    attachment: call.attachment,
    netns: call.netns === "" ? undefined : call.netns,
    endpointKey: keyOf(call),
  });
  if (!isOurIpam(call.config.ipam.type)) await delegate(call, "DEL", withPodCidrs(call.config.raw, anyPodCidrs));
  return "";
};

/**
 * CHECK: whether link, addresses, routes, endpoint and allocation still are as ADD left them.
 * DIFFERS: Calico prints OK and looks at nothing.
 */
export const check: Verb = async (call, deps) => {
  refuseNetns(call);
  const { config, attachment, netns } = call;
  const before = config.prevResult === undefined ? undefined : readResult(config.prevResult, "prevResult");
  const found = await deps.lifecycle.check({
    attachment,
    netns,
    endpointKey: keyOf(call),
    hostInterface: await hostInterfaceOf(call),
    addresses: before && ownAddresses(before, call),
  });
  if (found.length > 0) throw differs(found, attachment.containerId);
  if (!isOurIpam(config.ipam.type)) await delegate(call, "CHECK", withPodCidrs(config.raw, anyPodCidrs));
  return "";
};

/** STATUS: whether an ADD would be served now. */
export const status: Verb = async (call, deps) => {
  const { ipam } = call.config;
  const families = { v4: ipam.assign_ipv4 !== "false", v6: ipam.assign_ipv6 === "true" };
  const pools = { pools4: ipam.ipv4_pools, pools6: ipam.ipv6_pools };
  const wish = isOurIpam(ipam.type) ? { ...families, ...pools } : undefined;
  const state = deps.lifecycle.readiness(wish);
  if (!state.ready) {
    const code = state.connectivity === "limited" ? codes.limitedConnectivity : codes.notAvailable;
    throw new Refusal(code, { code: "not-ready", what: state.why, todo: "See `tortie ctl node status`" });
  }
  if (!wish) await delegate(call, "STATUS", call.config.raw);
  return "";
};

/** GC: takes from every container that is not listed what it holds in this network, and goes on over failures. */
export const gc: Verb = async (call, deps) => {
  const { config } = call;
  const problems = await deps.lifecycle.collect(config.name, validAttachments(call));
  if (!isOurIpam(config.ipam.type)) {
    await delegate(call, "GC", withPodCidrs(config.raw, anyPodCidrs)).catch((error) => {
      if (!isProblem(error)) throw error;
      problems.push(`plugin ${config.ipam.type}: ${messageOf(error)}`);
    });
  }
  if (problems.length > 0) throw incomplete(problems, config.name);
  return "";
};

/** The error of a CHECK that found something. */
export const differs = (found: string[], containerId: string): Refusal =>
  new Refusal(checkFailed, { code: "not-found", what: found[0]!, where: `container ${containerId}` }, found.join("; "));

/** The error of a GC that could not do all. */
export const incomplete = (problems: string[], network: string): Refusal =>
  new Refusal(gcIncomplete, {
    code: "conflict",
    what: `${problems.length} of what vanished containers hold could not be removed`,
    where: `network ${network}`,
  }, problems.join("; "));

/** The attachments that a GC call lists. @throws Refusal 7. */
export function validAttachments(call: Call): { containerId: string; interfaceName: string }[] {
  const list = call.config["cni.dev/valid-attachments"] ?? call.config["cni.dev/attachments"] ?? [];
  const entries = Array.isArray(list) ? list : [null];
  return entries.map((entry) => {
    if (isObject(entry) && typeof entry.containerID === "string" && typeof entry.ifname === "string") {
      return { containerId: entry.containerID, interfaceName: entry.ifname };
    }
    const what = "cni.dev/valid-attachments is not a list of {containerID, ifname}";
    throw new Refusal(codes.invalidConfig, { code: "bad-input", what, where: "network configuration" });
  });
}

/** Text of an answer, as Go prints it. */
export const print = (answer: Record<string, Json>): string => writeJson(answer, 4);

function keyOf(call: Call): string {
  const { name, namespace } = endpointIdentity(call);
  return resourceKey("WorkloadEndpoint", name, namespace);
}

async function hostInterfaceOf({ ids, env }: Call): Promise<string> {
  return ids.orchestrator === "k8s"
    ? await podInterfaceName(ids.namespace, ids.pod, interfacePrefix(env))
    : containerInterfaceName(ids.containerId);
}

interface WithAddresses {
  request: AddRequest;
  /** What another IPAM plugin answered. */
  answer?: Result;
  /** Gives its addresses back when the ADD fails. */
  giveBack(): Promise<void>;
}

/** Asks another IPAM plugin for the addresses, when the configuration names one. */
async function withAddresses(
  call: Call,
  deps: CniDeps,
  client: KubernetesClient | undefined,
  wanted: Wanted,
): Promise<WithAddresses> {
  const { addresses, answersRoutes: _, ...rest } = wanted;
  if (addresses.from !== "plugin") return { request: { ...rest, addresses }, giveBack: () => Promise.resolve() };
  const { config, ids } = call;
  let stdin = config.raw;
  if (config.ipam.type === "host-local" && needsPodCidrs(stdin)) {
    const node = config.kubernetes.node_name || ids.node;
    const api = client ?? await kubernetesOf(call, deps);
    stdin = withPodCidrs(stdin, podCidrsOf(await api.node(node)));
  }
  const giveBack = async () => {
    await delegate(call, "DEL", withPodCidrs(config.raw, anyPodCidrs)).catch((error) => {
      deps.log.warn("IPAM plugin did not take its addresses back", { plugin: config.ipam.type, why: messageOf(error) });
    });
  };
  try {
    const answer = await delegate(call, "ADD", stdin);
    const ips = (answer?.ips ?? []).flatMap(({ address }) => tryParseNet(address)?.ip ?? []);
    if (!answer || ips.length === 0) {
      const what = "IPAM plugin returned no IP addresses in result";
      throw new Refusal(codes.decodingFailure, { code: "bad-input", what, where: `plugin ${config.ipam.type}` });
    }
    const routes = hostLocalRoutes(call)?.filter((r) => ips.some((ip) => ip.v === r.dst.v));
    return { request: { ...rest, addresses: { from: "given", addresses: ips }, routes }, answer, giveBack };
  } catch (error) {
    await giveBack();
    throw error;
  }
}

/** `interfaces[0]` is our side, by its name alone, `interfaces[1]` the pod's. Gateways are left out: ours is the pair. */
function resultOf(call: Call, added: Added, answersRoutes: boolean, mtu: number, answer: Result | undefined): Result {
  const { spec } = added.endpoint;
  const { interfaceName, netns } = call.environment;
  const mine = { name: interfaceName, mac: spec.mac, ...(mtu > 0 ? { mtu } : {}), sandbox: netns };
  const routes = answersRoutes ? added.addresses.map(({ ip, block }) => ({ dst: `${formatIp(ip)}/${block.len}` })) : [];
  return {
    interfaces: [{ name: spec.interfaceName! }, mine],
    ips: added.addresses.map(({ ip }) => ({ address: hostCidr(ip), interface: 1 })),
    routes: answer ? answer.routes : routes,
    dns: answer?.dns ?? {},
  };
}

/** Addresses of the result that are on our interface. */
function ownAddresses(result: Result, call: Call): Ip[] {
  const { interfaceName, netns } = call.environment;
  return result.ips.flatMap(({ address, interface: index }) => {
    const on = index === undefined ? undefined : result.interfaces[index];
    const isOurs = !on || on.name === interfaceName && (on.sandbox ?? netns) === netns;
    const ip = tryParseNet(address)?.ip;
    return isOurs && ip ? [ip] : [];
  });
}

/** @throws Refusal 4 when the namespace does not exist, 8 when it is the host's own. */
function refuseNetns(call: Call): void {
  if (isHostsNetns(call) !== undefined) return;
  const what = `CNI_NETNS: network namespace "${call.environment.netns}" does not exist`;
  throw new Refusal(codes.invalidEnvironment, { code: "not-found", what, where: "CNI_NETNS" });
}

/**
 * False; undefined when there is no such namespace. DIFFERS: looked at before anything is done; Calico's DEL has removed an
 * interface of the host by then. @throws Refusal 8 when it is the host's.
 */
function isHostsNetns(call: Call): false | undefined {
  try {
    if (call.netns === "") return undefined;
    if (!isOwnNetns(call.netns)) return false;
  } catch (error) {
    if (isProblem(error, "not-found")) return undefined;
    throw error;
  }
  const what = "plugin's netns and netns from CNI_NETNS should not be the same";
  throw new Refusal(codes.invalidNetns, { code: "bad-input", what, where: `CNI_NETNS ${call.environment.netns}` });
}
