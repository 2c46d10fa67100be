/** Apart from the other tests of settings, because the YAML parser looks at the environment. */
import assert from "node:assert/strict";
import { Problem } from "../../lib/problem.ts";
import { parseSettings } from "../../node/settings.ts";

Deno.test("the file keeps values as they are written", async () => {
  const text = "# comment\nAS: 1.10\nIP: 010\nNODENAME: 'a b'\nETCD_ENDPOINTS: [http://a:1, http://b:1]\nIP6:\n";
  assert.deepEqual(await parseSettings("/t.yaml", text), {
    AS: "1.10",
    IP: "010",
    NODENAME: "a b",
    ETCD_ENDPOINTS: "http://a:1,http://b:1",
    IP6: "",
  });
  assert.deepEqual(await parseSettings("/t.yaml", ""), {});
});

Deno.test("a file that is not understood is refused with the line or the name", async () => {
  for (
    const [text, where] of [["A: 1\nB: [", "/t.yaml:"], ["- a", "/t.yaml"], ["A: {b: c}", "/t.yaml: A"], [
      "A: 1\nA: 2",
      "/t.yaml:2",
    ]]
  ) {
    await assert.rejects(parseSettings("/t.yaml", text!), (error) => {
      assert.ok(error instanceof Problem, String(error));
      assert.ok(error.where!.startsWith(where!), error.message);
      return true;
    });
  }
});
