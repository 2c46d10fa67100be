import { type ClusterNetworkPolicy, globalPolicyOf } from "../../../datastore/kubernetes/cluster_network_policy.ts";
import { calicoPolicyOf, type NetworkPolicy } from "../../../datastore/kubernetes/network_policy.ts";
import { endpointOfPod, type Pod, podState } from "../../../datastore/kubernetes/pod.ts";
import {
  type LabelledObject,
  profileOfNamespace,
  profileOfServiceAccount,
} from "../../../datastore/kubernetes/profile.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { podInterfaceName } from "../../../datastore/names.ts";
import { type Json, sameJson, writeJson } from "../../../lib/json64.ts";
import { Problem } from "../../../lib/problem.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

type Members = Record<string, unknown>;

/** conversion.json: what a Kubernetes object becomes. */
export const runner: CaseRunner = {
  async run(one: Case): Promise<Outcome> {
    const { kind, object } = one.input as { kind: string; object: LabelledObject };
    const got = kind === "Pod" ? await podAnswer(object as Pod) : objectAnswer(kind, object);
    if (sameJson(plain(one.expect), plain(got))) return { is: "passed" };
    const reason = kind.endsWith("Policy") ? failsClosed(one.expect as Members, got) : undefined;
    if (reason) return { is: "differs", reason };
    return { is: "failed", difference: `expected ${writeJson(one.expect, 1)}\ngot      ${writeJson(plain(got), 1)}` };
  },
};

const converters: Record<string, (object: LabelledObject) => { policy: Resource | undefined; problems: string[] }> = {
  NetworkPolicy: (object) => calicoPolicyOf(object as NetworkPolicy),
  ClusterNetworkPolicy: (object) => globalPolicyOf(object as ClusterNetworkPolicy),
  Namespace: (object) => ({ policy: profileOfNamespace(object), problems: [] }),
  ServiceAccount: (object) => ({ policy: profileOfServiceAccount(object), problems: [] }),
};

function objectAnswer(kind: string, object: LabelledObject): Members {
  try {
    const { policy: made, problems } = converters[kind]!(object);
    const { name, namespace = "" } = object.metadata;
    const key = kind.endsWith("Policy")
      ? { kind: `Kubernetes${kind}`, name, namespace }
      : { kind: "Profile", name: made!.metadata.name, namespace: "" };
    return { key, value: made ?? null, ...(made && problems.length > 0 ? { error: true } : {}) };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { error: true, key: null };
  }
}

async function podAnswer(pod: Pod): Promise<Members> {
  const { valid, ready, finished } = podState(pod);
  const state = { isValid: valid, isReady: ready, isFinished: finished };
  try {
    const namespace = pod.metadata.namespace ?? "";
    const { endpoint } = endpointOfPod(pod, await podInterfaceName(namespace, pod.metadata.name));
    const key = { kind: "WorkloadEndpoint", name: endpoint.metadata.name, namespace };
    return { endpoints: [{ key, value: endpoint }], ...state };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return { endpoints: null, error: true, ...state };
  }
}

/**
 * The reason when we differ as we mean to: a part of a policy that cannot be read is told of and allows nothing, where
 * Calico drops the part alone. All that we have must be in Calico's answer too.
 */
function failsClosed(expect: Members, got: Members): string | undefined {
  const [theirs, ours] = [expect.value, got.value] as (Resource | null | undefined)[];
  if (got.error !== true || !theirs || !ours || expect.error === true) return undefined;
  const shell = ({ spec, ...rest }: Resource) => plain({ ...rest, spec: { ...spec, ingress: 0, egress: 0 } });
  if (!sameJson(shell(theirs), shell(ours))) return undefined;
  const rules = (policy: Resource, direction: string) => (policy.spec[direction] ?? []) as Json[];
  const isSubset = ["ingress", "egress"].every((direction) =>
    rules(ours, direction).every((rule) => rules(theirs, direction).some((r) => sameJson(plain(r), plain(rule))))
  );
  return isSubset ? "a part that cannot be read allows nothing and is told of; Calico drops the part alone" : undefined;
}

const plain = (value: unknown): Json => JSON.parse(JSON.stringify(value));
