import { deepEqual } from "node:assert/strict";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { watchOwnNode } from "./own_node_watch.ts";

/** Lets the watch look once for each answer of Kubernetes. @returns how often the Node was made, and what was said. */
async function looks(answers: (boolean | Problem)[], state: { there?: boolean; inSync?: boolean } = {}) {
  const stop = new AbortController(), said: string[] = [];
  let made = 0, look = -1;
  const log = createLog("test", { write: (line) => void said.push(JSON.parse(line).why) });
  await watchOwnNode({
    ...{ node: "alder", log, signal: stop.signal },
    mirror: {
      get: () => (state.there || made > 0 ? { key: "", value: "", revision: 1n } as never : undefined),
      state: () => ({ inSync: state.inSync ?? true, connected: true }) as never,
    },
    isInKubernetes() {
      const answer = answers[look]!;
      return answer instanceof Problem ? Promise.reject(answer) : Promise.resolve(answer);
    },
    makeAnew: () => Promise.resolve(void made++),
    clock: {
      now: () => 0,
      monotonicMs: () => 0,
      sleep() {
        if (++look === answers.length) stop.abort(new Error("the test is over"));
        return Promise.resolve();
      },
    },
  });
  return { made, said };
}

const away = new Problem({ code: "unavailable", what: "away" });

Deno.test("a Node that was removed is made anew as soon as Kubernetes has the node, and once", async () => {
  deepEqual(await looks([false, false, away, true, true]), {
    made: 1,
    said: ["Kubernetes has no such node", "away", "Kubernetes has it, so it is made anew"],
  });
});

Deno.test("a Node that is there, or may be there, is left alone", async () => {
  deepEqual(await looks([true, true], { there: true }), { made: 0, said: [] });
  deepEqual(await looks([true, true], { inSync: false }), { made: 0, said: [] });
});
