import assert from "node:assert/strict";
import { defaultUnitPaths, enabledUnits, units } from "./units.ts";

Deno.test("every enabled unit exists, can be enabled, and names only units that exist", () => {
  const texts = units(defaultUnitPaths);
  for (const name of enabledUnits) assert.match(texts[name]!, /^\[Install\]$/m, name);
  for (const [name, text] of Object.entries(texts)) {
    for (const [, other] of text.matchAll(/\b(tortie[a-z-]*\.(?:service|path))\b/g)) {
      assert.ok(texts[other!], `${name}: ${other}`);
    }
  }
});

Deno.test("the agent is started under the name that Calico's calicoctl looks for, BIRD apart from it", () => {
  const texts = units({ ...defaultUnitPaths, binary: "/x/tortie", bird: "/y/bird" });
  assert.match(texts["tortie.service"]!, /^ExecStart=@\/x\/tortie calico-felix node$/m);
  assert.match(texts["tortie-bird.service"]!, /^ExecStart=@\/y\/bird bird -f -R /m);
  assert.doesNotMatch(texts["tortie-bird.service"]!, /BindsTo|PartOf|Requires/);
});
