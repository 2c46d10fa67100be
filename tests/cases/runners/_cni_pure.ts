import type { Json } from "../../../lib/json64.ts";
import { isProblem, messageOf } from "../../../lib/problem.ts";
import { endpointOfPod, type Pod } from "../../../datastore/kubernetes/pod.ts";
import {
  beginningOf,
  type EndpointIdentity,
  endpointName,
  endpointNamePrefix,
  podInterfaceName,
} from "../../../datastore/names.ts";
import { identifiersOf, readArgs } from "../../../cni/environment.ts";
import { interfacePrefix } from "../../../cni/pod.ts";
import { sanitizeLabel } from "../../../cni/request.ts";

/** Identifiers with the names of Calico's structure, as the cases have them. */
type Identifiers = Record<string, string>;

interface PureInput {
  veth?: { namespace: string; pod: string; FELIX_INTERFACEPREFIX?: string };
  wepName?: Identifiers;
  parseWepName?: string;
  sanitizeLabel?: string;
  node?: string;
  identifiers?: { containerID: string; ifName: string; args?: string };
  podToEndpoint?: Pod;
}

/** The answer to a case that needs no plugin; undefined when it is a run. */
export async function pureAnswer(input: PureInput): Promise<Json | undefined> {
  if (input.veth) {
    const { namespace, pod, FELIX_INTERFACEPREFIX = "" } = input.veth;
    return { interface: await podInterfaceName(namespace, pod, interfacePrefix({ FELIX_INTERFACEPREFIX })) };
  }
  if (input.wepName) {
    const id = identityOf(input.wepName);
    return { name: orError(() => endpointName(id)), prefix: orError(() => endpointNamePrefix(id)) };
  }
  if (input.parseWepName !== undefined) return { identifiers: parsed(input.parseWepName) };
  if (input.sanitizeLabel !== undefined) return { label: sanitizeLabel(input.sanitizeLabel) };
  if (input.identifiers) return { identifiers: orError(() => identifiers(input)) };
  if (input.podToEndpoint) {
    const { name, namespace = "" } = input.podToEndpoint.metadata;
    const { endpoint } = endpointOfPod(input.podToEndpoint, await podInterfaceName(namespace, name));
    return { endpoint: JSON.parse(JSON.stringify(endpoint)) as Json };
  }
  return undefined;
}

function identityOf(ids: Identifiers): EndpointIdentity {
  return {
    node: ids.Node!,
    orchestrator: ids.Orchestrator!,
    endpoint: ids.Endpoint!,
    pod: ids.Pod,
    containerID: ids.ContainerID,
    workload: ids.Workload,
  };
}

function parsed(name: string): Json {
  const id = beginningOf(name);
  if (!id) return { error: `Error parsing ${name}, verify that WorkloadEndpoint name is correct` };
  return {
    Node: id.node ?? "",
    Orchestrator: id.orchestrator ?? "",
    Endpoint: id.endpoint ?? "",
    Workload: id.workload ?? "",
    Pod: id.pod ?? "",
    ContainerID: id.containerID ?? "",
  };
}

function identifiers({ identifiers, node }: PureInput): Json {
  const { containerID, ifName, args = "" } = identifiers!;
  const id = identifiersOf(readArgs(args, false), { containerId: containerID, interfaceName: ifName }, node!);
  return {
    Namespace: id.namespace,
    WEPName: "",
    Node: id.node,
    Orchestrator: id.orchestrator,
    Endpoint: id.endpoint,
    Workload: "",
    Pod: id.pod,
    ContainerID: id.containerId,
  };
}

/** The value, or the error in Calico's words: a Problem with fields names them as its ErrorValidation does. */
function orError(make: () => Json): Json {
  try {
    return make();
  } catch (error) {
    if (!isProblem(error)) throw error;
    const field = error.fields?.[0];
    if (!field) return { error: error.what || messageOf(error) };
    const value = field.field === "node" && field.value === undefined ? "" : ` = '${field.value ?? ""}'`;
    return { error: `error with field ${field.field}${value} (${field.reason})` };
  }
}
