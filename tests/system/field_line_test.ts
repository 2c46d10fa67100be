import assert from "node:assert/strict";
import fc from "fast-check";
import { lineOfField } from "../../ctl/field_line.ts";

const text = `
kind: GlobalNetworkPolicy
metadata:
  name: web
spec:
  order: 1
  ingress:
  - action: Allow
  - action: Deny
    protocol: TCPX
  selector: all(
`;

Deno.test("a field is found by Calico's name or its own, also without spec in front", async () => {
  const lines = {
    "spec.order": 6,
    "Spec.Ingress[1].Protocol": 10,
    "Selector": 11,
    "Metadata.Name": 4,
    "spec.ingress[1]": 9,
    "spec.ingress[7].source": 7,
    "nothing": 2,
  };
  for (const [path, line] of Object.entries(lines)) assert.equal(await lineOfField(text, path), line, path);
  assert.equal(await lineOfField('{"spec": {\n"order": "x"}}', "spec.order"), 2);
  assert.equal(await lineOfField("# nothing\n", "spec"), undefined);
});

Deno.test("no text and no path is a reason to fail", async () => {
  await fc.assert(fc.asyncProperty(fc.string(), fc.string(), async (text, path) => void await lineOfField(text, path)));
});
