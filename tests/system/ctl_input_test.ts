// The yaml package reads the environment, so these tests cannot stand among the pure ones.
import assert from "node:assert/strict";
import fc from "fast-check";
import { parse } from "yaml";
import { documentsIn } from "../../ctl/input.ts";
import { yamlText } from "../../ctl/yaml_text.ts";
import { messageOf } from "../../lib/problem.ts";

const set = (name: string) => `apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: ${name}}\n`;

const namesIn = async (text: string) => (await documentsIn(text, "f.yaml")).map((d) => d.resource.metadata.name);

async function complaint(text: string): Promise<string> {
  try {
    await documentsIn(text, "f.yaml");
  } catch (error) {
    return messageOf(error);
  }
  return "no complaint";
}

Deno.test("documents are told apart by lines that begin with ---, and know their place", async () => {
  const documents = await documentsIn(`${set("a")}---\n${set("b")}---\n`, "f.yaml");
  assert.deepEqual(documents.map((d) => [d.resource.metadata.name, d.where]), [
    ["a", "f.yaml, document 1"],
    ["b", "f.yaml, document 2"],
  ]);
});

Deno.test("JSON, lists and sequences are read too", async () => {
  const json = (name: string) =>
    `{"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "${name}"}}`;
  assert.deepEqual(await namesIn(`${json("a")}\n---\n${json("b")}`), ["a", "b"]);
  const list = `{"apiVersion": "projectcalico.org/v3", "kind": "TierList", "items": [{"metadata": {"name": "a"}}, ${
    json("b")
  }]}`;
  assert.deepEqual(await namesIn(list), ["a", "b"]);
  assert.deepEqual(await namesIn(`[${json("a")}, ${json("b")}]`), ["a", "b"]);
});

Deno.test("comments above the first document are no document", async () => {
  assert.deepEqual(await namesIn(`# Apache-2.0\n---\n${set("a")}---\n# end\n`), ["a"]);
});

Deno.test("faults are told with the file, the document, and the line or path", async () => {
  const duplicate = `${set("a")}---\n${set("b")}spec: {}\nspec: {}\n`;
  assert.match(await complaint(duplicate), /line \d+: key "spec" already set in map \(f\.yaml, document 2\)/);
  assert.match(await complaint(`${set("a")}spec:\n\tnets: []\n`), /yaml: line \d+: .*\(f\.yaml, document 1\)/);
  assert.match(
    await complaint(`${set("a")}spec: {nets: 3}\n`),
    /f\.yaml, document 1: .*spec\.nets: number cannot be read as array/,
  );
  assert.match(await complaint(`${set("a")}spec: {nest: []}\n`), /not recognized or is in the wrong location: nest$/);
  assert.equal(await complaint("kind: Widget\napiVersion: v1\n"), "unknown resource type (Widget) and/or version (v1)");
  assert.match(await complaint(set("a").replace("v3", "v2")), /unknown resource type \(GlobalNetworkSet\)/);
  assert.equal(await complaint("just text"), "unknown resource type () and/or version ()");
});

Deno.test("integers of 64 bits are read exactly, ports with a colon stay text", async () => {
  const endpoint = `apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: a, namespace: b}
spec: {qosControls: {ingressBandwidth: 9007199254740993}}
`;
  const [wep] = await documentsIn(endpoint, "f");
  assert.deepEqual(wep!.resource.spec.qosControls, { ingressBandwidth: 9007199254740993n });
  const policy = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: a}
spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: [1:30, 80]}}]}
`;
  const [gnp] = await documentsIn(policy, "f");
  assert.deepEqual((gnp!.resource.spec.ingress as { destination: unknown }[])[0]!.destination, { ports: ["1:30", 80] });
});

Deno.test("a document of more than 10 MiB is refused before it is parsed", async () => {
  assert.match(await complaint(set("a") + "# " + "x".repeat(11 << 20)), /longer than 10 MiB/);
});

Deno.test("any JSON survives its YAML, read as YAML 1.1 or 1.2", () => {
  const words = fc.constantFrom(
    ...["", "true", "yes", "on", "null", "~", "1", "012", "0x1f", "1.5", "1e3", "1:30", "443:445", "2026-01-02", "<<"],
    ...[
      "- a",
      "a: b",
      "a #b",
      "# a",
      "* a",
      "!has(x)",
      "it's",
      "a\nb",
      "a\n",
      "\n",
      " a",
      "a ",
      "é",
      "\u{1f600}",
      "@a",
      "%",
      ":",
    ],
  );
  const { tree } = fc.letrec((tie) => ({
    leaf: fc.oneof(
      fc.string(),
      words,
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
    ),
    tree: fc.oneof(
      { depthSize: "small" },
      tie("leaf"),
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(fc.oneof(fc.stringMatching(/^[a-zA-Z0-9./_-]{1,12}$/), words), tie("tree"), { maxKeys: 4 }),
    ),
  }));
  // yaml 2.9.1 takes E0 for a number in its version 1.1; YAML 1.1 and Go do not.
  const strange = /"[-+]?[0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+"/;
  fc.assert(
    fc.property(tree.filter((v) => !strange.test(JSON.stringify(v))), (value) => {
      const wanted = JSON.parse(JSON.stringify(value));
      for (const version of ["1.1", "1.2"] as const) {
        assert.deepEqual(JSON.parse(JSON.stringify(parse(yamlText(wanted), { version }))), wanted);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("YAML is that of Kubernetes: yes is true, a time and a pair of numbers are text", async () => {
  const [document] = await documentsIn(
    `apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p, labels: {on: yes, at: 2024-01-01, pair: 80:50, size: 1.50, count: 010}}
spec: {cidr: 10.0.0.0/16, natOutgoing: yes, disabled: off, blockSize: 0x1a}
`,
    "f.yaml",
  );
  const { metadata, spec } = document!.resource;
  // Text that was written without quotes is spelt as it was read, for keys too.
  const labels = { true: "true", at: "2024-01-01", pair: "80:50", size: "1.5", count: "8" };
  assert.deepEqual(metadata.labels, labels);
  assert.deepEqual(spec, { cidr: "10.0.0.0/16", natOutgoing: true, disabled: false, blockSize: 26 });
});

Deno.test("a number stands for text only where text belongs", async () => {
  assert.deepEqual(await namesIn(set("12345678901234567890")), ["12345678901234567890"]);
  const pool = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\n";
  assert.match(await complaint(`${pool}spec: {natOutgoing: 1}\n`), /spec\.natOutgoing: number cannot be read as bool/);
  assert.match(await complaint(`${pool}spec: {cidr: [1]}\n`), /spec\.cidr: array cannot be read as string/);
});
