import assert from "node:assert/strict";
import { isProblem } from "../lib/problem.ts";
import { apiVersion, type Resource } from "../datastore/kind.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import { runTemplate } from "./go_template.ts";
import { resultsOf } from "./go_values.ts";

const kind = kindByName("IPPool");
const pool = (name: string, spec: Record<string, unknown>): Resource => ({
  kind: "IPPool",
  apiVersion,
  metadata: { name, labels: { b: "2", a: "1" } },
  spec,
});
const found = {
  kind,
  revision: 7n,
  items: [
    pool("main", {
      cidr: "10.0.0.0/16",
      natOutgoing: true,
      allowedUses: ["Workload", "Tunnel"],
      assignmentMode: "Automatic",
    }),
    pool("six", { cidr: "fd00::/48" }),
  ],
};
const show = (text: string) => runTemplate(text, resultsOf([found]), { asNumber: 64512 });
const each = (text: string) => show(`{{range .}}{{range .Items}}${text};{{end}}{{end}}`);

Deno.test("fields have Go's names, and zero values when they are absent", () => {
  assert.equal(
    each("{{.Name}} {{.Spec.CIDR}} {{.Spec.NATOutgoing}} {{.Spec.BlockSize}}"),
    "main 10.0.0.0/16 true 0;six fd00::/48 false 0;",
  );
  assert.equal(each("{{.Spec.AssignmentMode}}|{{.Spec.VXLANMode}}"), "Automatic|;<nil>|;");
  assert.equal(each("{{.ObjectMeta.Labels.a}}{{.Labels}}"), "1map[a:1 b:2];1map[a:1 b:2];");
});

Deno.test("if, else, with and range choose what is shown", () => {
  assert.equal(each("{{if .Spec.NATOutgoing}}nat{{else if eq .Name `six`}}6{{else}}-{{end}}"), "nat;6;");
  assert.equal(each("{{with .Spec.AllowedUses}}{{len .}}{{else}}none{{end}}"), "2;none;");
  assert.equal(show("{{range .}}{{.Kind}} {{.ResourceVersion}} {{len .Items}}{{end}}"), "IPPoolList 7 2");
});

Deno.test("functions, pipes and parentheses work together", () => {
  assert.equal(each('{{join .Spec.AllowedUses ","}}'), "Workload,Tunnel;;");
  assert.equal(each('{{joinAndTruncate .Spec.AllowedUses "," 10}}'), "Workloa...;;");
  assert.equal(each('{{.Name | printf "%-5s|%q" "x"}}'), 'x    |"main";x    |"six";');
  assert.equal(each("{{if and .Spec.NATOutgoing (not (eq .Name `six`))}}y{{end}}"), "y;;");
  assert.equal(show('{{config "asnumber"}}'), "64512");
  assert.equal(show("{{range .}}{{(index .Items 1).Name}}{{end}}"), "six");
});

Deno.test("blanks are trimmed by dashes, and comments vanish", () => {
  assert.equal(show("a {{- /* c */ -}}  b"), "ab");
  assert.equal(show("{{range . -}}  x  {{- end}}"), "x");
});

Deno.test("what is not understood is refused with its name", () => {
  const refusals: [string, RegExp][] = [
    ["{{range .}}", /has no \{\{end\}\}/],
    ["{{end}}", /unexpected \{\{end\}\}/],
    ["{{foo .}}", /function "foo" is not known/],
    ["{{range .}}{{.Nope}}{{end}}", /can't evaluate field Nope/],
    ["{{$x := 1}}", /not understood/],
    ["{{.", /not closed/],
    ["{{range .}}{{.Items}}{{end}}", /cannot be printed whole/],
    ["{{(len .}}", /parenthesis is not closed/],
  ];
  for (const [text, what] of refusals) {
    assert.throws(() => show(text), (e) => isProblem(e, "bad-input") && what.test(e.what), text);
  }
});
