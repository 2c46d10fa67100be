import { deepEqual, throws } from "node:assert/strict";
import { Problem } from "../../lib/problem.ts";
import { podInterfaceName } from "../names.ts";
import { annotationList, endpointOfPod, type Pod, sourcePrefixes } from "./pod.ts";
import { qosOf } from "./qos.ts";
import { parseQuantity } from "./quantity.ts";

interface PodCase {
  id: string;
  what: string;
  input: { kind?: string; object: Pod };
  expect: { endpoints: { value: unknown }[] | null };
}

const { cases } = JSON.parse(Deno.readTextFileSync("tests/cases/conversion.json")) as { cases: PodCase[] };
for (const one of cases.filter((c) => c.input.kind === "Pod")) {
  Deno.test(`endpointOfPod() converts as Calico does: ${one.what} (${one.id})`, async () => {
    const pod = one.input.object;
    const name = await podInterfaceName(pod.metadata.namespace!, pod.metadata.name);
    if (one.expect.endpoints === null) throws(() => endpointOfPod(pod, name), Problem);
    else deepEqual(JSON.parse(JSON.stringify(endpointOfPod(pod, name).endpoint)), one.expect.endpoints[0]!.value);
  });
}

Deno.test("annotationList() refuses what is not a JSON list of strings and names the annotation", () => {
  for (const text of ["{", "1", '"a"', "[1]", '["a", null]']) {
    throws(() => annotationList({ a: text }, "a"), (e: unknown) => e instanceof Problem && e.where === "annotation a");
  }
  deepEqual(annotationList({ a: "" }, "a"), []);
  deepEqual(annotationList({ a: '["x"]' }, "a"), ["x"]);
});

Deno.test("sourcePrefixes() masks host bits and refuses a bare address", () => {
  const of = (text: string) => sourcePrefixes({ "cni.projectcalico.org/allowedSourcePrefixes": text });
  deepEqual(of('["8.8.8.8/8", "2001:db8::1/64"]'), ["8.0.0.0/8", "2001:db8::/64"]);
  throws(() => of('["8.8.8.8"]'), Problem);
});

Deno.test("parseQuantity() reads Kubernetes quantities and rounds up", () => {
  const of: [string, bigint | undefined][] = [
    ["0", 0n],
    ["10M", 10_000_000n],
    ["1Gi", 1n << 30n],
    ["1.5k", 1500n],
    ["1.01P", 1_010_000_000_000_000n],
    [".5Ki", 512n],
    ["100m", 1n],
    ["1500m", 2n],
    ["-1500m", -2n],
    ["2e3", 2000n],
    ["25E-1", 3n],
    ["1E", 10n ** 18n],
    ["", undefined],
    ["k", undefined],
    ["1 k", undefined],
    ["1kk", undefined],
    ["0x10", undefined],
  ];
  for (const [text, value] of of) deepEqual(parseQuantity(text), value, text);
});

Deno.test("qosOf() moves values into their range and drops what stands alone, and says so", () => {
  const q = (annotations: Record<string, string>) =>
    qosOf(Object.fromEntries(Object.entries(annotations).map(([k, v]) => [`qos.projectcalico.org/${k}`, v])));
  deepEqual(q({ ingressBandwidth: "2P" }).controls, { ingressBandwidth: 10 ** 15, ingressBurst: 4294967296 });
  deepEqual(q({ ingressBurst: "1M" }), { controls: undefined, problems: ["ingressBurst needs ingressBandwidth"] });
  deepEqual(q({ egressBandwidth: "1M", egressPeakrate: "1M" }).controls, {
    egressBandwidth: 1_000_000,
    egressBurst: 4294967296,
  });
  deepEqual(q({ egressBandwidth: "1M", egressPeakrate: "2M", egressMinburst: "1500", egressBurst: "5M" }).controls, {
    egressBandwidth: 1_000_000,
    egressBurst: 5_000_000,
    egressPeakrate: 2_000_000,
    egressMinburst: 1500,
  });
  deepEqual(q({ dscp: "af11" }).controls, { dscp: "AF11" });
  deepEqual(q({ dscp: "46" }).controls, { dscp: "46" });
  deepEqual(q({ dscp: "64" }).problems.length, 1);
  deepEqual(qosOf({ "kubernetes.io/egress-bandwidth": "1M", "qos.projectcalico.org/egressBandwidth": "2M" }).controls, {
    egressBandwidth: 2_000_000,
    egressBurst: 4294967296,
  });
});
