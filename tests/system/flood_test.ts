import assert from "node:assert/strict";
import type { Variant } from "../packets/loader.ts";
import { mutants, runMutant } from "../flood/mutants.ts";
import { outcomeHead, outcomeLine, Stage, type Transition } from "../flood/stage.ts";
import {
  endpointTransitions,
  guardedTransitions,
  harmTransitions,
  policyTransitions,
  restartTransitions,
  setTransitions,
} from "../flood/transitions.ts";

const groups: Record<string, Transition[]> = {
  policy: policyTransitions,
  sets: setTransitions,
  endpoints: endpointTransitions,
  restarts: restartTransitions,
  harm: harmTransitions,
};
/** FLOOD_ONLY=<regular expression>: only groups whose name matches. */
const only = new RegExp(Deno.env.get("FLOOD_ONLY") ?? "");
const chosen = Object.entries(groups).filter(([name]) => only.test(name)).flatMap(([, transitions]) => transitions);

// The flood's thread ends by itself; its end is told a moment later.
const options = { sanitizeOps: false, sanitizeResources: false };

/** Sets a stage, runs the transitions and tells of each. @throws when a packet did what it should not. */
async function flooded(variant: Variant, transitions: Transition[], env: Record<string, string> = {}): Promise<void> {
  const began = performance.now();
  await using stage = await Stage.set("fl", variant, env);
  console.log(`${variant}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s\n${outcomeHead}`);
  const wrong: string[] = [];
  let packets = 0;
  for (const transition of transitions) {
    const outcome = await stage.run(transition);
    packets += outcome.packets;
    wrong.push(...outcome.wrong.map((why) => `${outcome.name}: ${why}`));
    console.log([outcomeLine(outcome), ...outcome.wrong].join("\n    "));
  }
  await stage.flood.stop();
  assert.equal(stage.unread(), 0, "the flood did not read all that came out");
  console.log(`${variant}: ${packets} packets in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  assert.deepEqual(wrong, []);
}

for (const variant of ["legacy", "nft"] as const satisfies Variant[]) {
  Deno.test(
    `${variant}: through every transition no packet passes that policy denies, and none is lost that it allows`,
    options,
    () => flooded(variant, chosen),
  );

  Deno.test(
    `${variant}: where filter is guarded nothing passes that policy denies while somebody flushes it or goes before it`,
    options,
    () => flooded(variant, guardedTransitions, { TORTIE_FLUSH_GUARD: "true" }),
  );
}

Deno.test({
  name: "each fault that is put into the agent makes the flood fail",
  // Minutes: each runs the flood in a process of its own. FLOOD_MUTANTS=1 runs them, or a part of a name that one.
  ignore: !Deno.env.get("FLOOD_MUTANTS"),
  fn: async (t) => {
    const wanted = Deno.env.get("FLOOD_MUTANTS")!;
    const selected = mutants.filter(({ name }) => wanted === "1" || name.includes(wanted));
    await t.step("none: the copy of the sources passes", async () => {
      const { failed, output } = await runMutant(undefined, selected.map((m) => m.only).join("|"));
      assert.equal(failed, false, output.slice(-4000));
    });
    for (const mutant of selected) {
      await t.step(mutant.name, async () => {
        const { failed, output } = await runMutant(mutant, mutant.only);
        assert.equal(failed, true, "the flood did not notice");
        assert.match(output, mutant.says);
        console.log(`${mutant.name}:\n${output.split("\n").filter((l) => mutant.says.test(l)).slice(0, 3).join("\n")}`);
      });
    }
  },
});
