import { decodeResource, isUndecodable, unknownMembers } from "../../../datastore/codec.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { kindByName } from "../../../datastore/kinds/index.ts";
import { parseKey } from "../../../datastore/keys.ts";
import { MemoryStore } from "../../../datastore/memory.ts";
import { formatCidr } from "../../../lib/ip.ts";
import { type Json, parseJson, sameJson, writeJson } from "../../../lib/json64.ts";
import { Problem } from "../../../lib/problem.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";
import { isFelixParameter } from "./_v1_config.ts";
import { models } from "./_v1_model.ts";
import { clusterFor, type WriteInput, writeOf } from "./validation.ts";

type Members = Record<string, Json>;

/** storage.json: what a write leaves in etcd, what a key and value mean, and what Felix makes of an object. */
export const runner: CaseRunner = {
  async run(one: Case): Promise<Outcome> {
    const op = one.input.op as string;
    if (op === "create" || op === "update") return await runWrite(one);
    if (op === "parse") return runParse(one);
    return runV1(one);
  },
};

async function runWrite(one: Case): Promise<Outcome> {
  const input = one.input as unknown as WriteInput;
  await using store = new MemoryStore();
  const resources = await clusterFor(store, input);
  const before = (await store.status()).revision;
  await writeOf(resources, input);
  const written: Members[] = [];
  await store.list({ start: "/calico/", end: "/calico0" }, (kvs) => {
    for (const kv of kvs) {
      if (kv.revision > before) written.push({ key: kv.key, value: withoutIdentity(parseJson(kv.value) as Members) });
    }
  });
  return compare((one.expect as Members).written!, written);
}

/** uid and creation time stand for any in the cases. */
function withoutIdentity(value: Members): Members {
  const metadata = value.metadata as Members;
  return { ...value, metadata: { ...metadata, uid: "<uid>", creationTimestamp: "<ts>" } };
}

function runParse(one: Case): Outcome {
  const { key, value } = one.input as { key: string; value?: string };
  const expect = one.expect as Members;
  const parsed = parseKey(key);
  const got: Members = { key: null };
  if (parsed?.is === "resource") {
    got.key = "ResourceKey";
    got.fields = { Kind: parsed.kind, Name: parsed.name, Namespace: parsed.namespace ?? "" };
    if (value !== undefined) Object.assign(got, parseValue(key, value));
  } else if (parsed?.is === "block") {
    got.key = "BlockKey";
    got.text = `BlockKey(cidr=${formatCidr(parsed.cidr)})`;
  } else if (parsed?.is === "handle") {
    got.key = "IPAMHandleKey";
    got.text = `IPAMHandleKey(id=${parsed.id})`;
  } else if (parsed?.is === "node-status") {
    got.key = parsed.last ? "LastStatusReportKey" : "ActiveStatusReportKey";
    got.text = `StatusReport(hostname=${parsed.node})`;
  } else if (parsed?.is === "host-endpoint-status") {
    got.key = "HostEndpointStatusKey";
    got.text = `HostEndpointStatus(hostname=${parsed.node}, name=${parsed.name})`;
  } else if (parsed?.is === "workload-status") {
    got.key = "WorkloadEndpointStatusKey";
    const { node, orchestrator, workload, endpoint } = parsed;
    got.text =
      `WorkloadEndpointStatus(hostname=${node}, orchestrator=${orchestrator}, workload=${workload}, name=${endpoint})`;
  } else if (parsed?.is === "affinity") {
    got.key = "BlockAffinityKey";
    got.text = `BlockAffinityKey(cidr=${formatCidr(parsed.cidr)}, host=${parsed.node}, affinityType=${parsed.owner})`;
  } else if (parsed?.is === "ipam-config") {
    got.key = "IPAMConfigKey";
    got.text = "IPAMConfigKey()";
  }
  if (value !== undefined && parsed && parsed.is !== "resource") got.value = parseJson(value);
  return compare(expect, got);
}

/** What the calculation understands, in the form of Calico's older model. */
function runV1(one: Case): Outcome {
  const { processor, events } = one.input as { processor: string; events: { resource: Json; delete?: boolean }[] };
  const model = models[processor];
  if (!model) return { is: "failed", difference: `${processor} is not mapped to the older model` };
  let before: string[] = [];
  const steps = events.map((event): Json => {
    try {
      const answer = model(structuredClone(event.resource) as unknown as Resource, event.delete === true);
      const { kvs, error } = Array.isArray(answer) ? { kvs: answer, error: false } : answer;
      const now = kvs.map(([key]) => key);
      const gone = before.filter((key) => !now.includes(key) && !isFelixParameter(key));
      before = now;
      const all = [...kvs.map(([key, value]) => ({ key, value })), ...gone.map((key) => ({ key, value: null }))];
      return { kvs: sorted(all), ...(error ? { error } : {}) };
    } catch (error) {
      if (error instanceof Problem) return { kvs: [], error: true };
      throw error;
    }
  });
  const expected = (one.expect as { steps: { kvs: { key: string }[] }[] }).steps;
  return compare(expected.map((step) => ({ ...step, kvs: sorted(step.kvs) })) as Json, steps);
}

const sorted = <T extends { key: string }>(kvs: T[]): T[] => kvs.toSorted((a, b) => (a.key < b.key ? -1 : 1));

/** The object without what the store added, and without members that Calico's reader drops and ours keeps. */
function parseValue(key: string, value: string): Members {
  const resource = decodeResource({ key, value, revision: 1n })!;
  if (isUndecodable(resource)) return { valueError: true };
  for (const path of unknownMembers(kindByName(resource.kind), resource)) removeAt(resource, path.split("."));
  delete resource.metadata.resourceVersion;
  return { value: resource as unknown as Json };
}

function removeAt(object: Resource | Members, path: string[]): void {
  const [member, ...rest] = path as [string, ...string[]];
  const members = object as Members;
  if (rest.length === 0) delete members[member];
  else removeAt(members[member] as Members, rest);
}

function compare(expect: Json, got: Json): Outcome {
  if (sameJson(expect, got)) return { is: "passed" };
  return { is: "failed", difference: `expected ${writeJson(expect, 1)}\ngot      ${writeJson(got, 1)}` };
}
