import assert from "node:assert/strict";
import type { Variant } from "../packets/loader.ts";
import { outcomeHead, outcomeLine, Stage, type Transition } from "../flood/stage.ts";
import {
  endpointTransitions,
  harmTransitions,
  policyTransitions,
  restartTransitions,
  setTransitions,
} from "../flood/transitions.ts";

const all: Transition[] = [
  ...policyTransitions,
  ...setTransitions,
  ...endpointTransitions,
  ...restartTransitions,
  ...harmTransitions,
];
/** FLOOD_ONLY=<regular expression>: only transitions whose name matches. */
const only = new RegExp(Deno.env.get("FLOOD_ONLY") ?? "");

for (const variant of ["legacy", "nft"] as const satisfies Variant[]) {
  Deno.test({
    name: `${variant}: through every transition no packet passes that policy denies, and none is lost that it allows`,
    // The flood's thread ends by itself; its end is told a moment later.
    ...{ sanitizeOps: false, sanitizeResources: false },
    fn: async () => {
      const began = performance.now();
      await using stage = await Stage.set("fl", variant);
      console.log(`${variant}: ready after ${((performance.now() - began) / 1000).toFixed(1)} s\n${outcomeHead}`);
      const wrong: string[] = [];
      let packets = 0;
      for (const transition of all.filter(({ name }) => only.test(name))) {
        const outcome = await stage.run(transition);
        packets += outcome.packets;
        wrong.push(...outcome.wrong.map((why) => `${outcome.name}: ${why}`));
        console.log([outcomeLine(outcome), ...outcome.wrong].join("\n    "));
      }
      await stage.flood.stop();
      assert.equal(stage.unread(), 0, "the flood did not read all that came out");
      console.log(`${variant}: ${packets} packets in ${((performance.now() - began) / 1000).toFixed(1)} s`);
      assert.deepEqual(wrong, []);
    },
  });
}
