import { messageOf, Problem } from "../../lib/problem.ts";
import { identify } from "../../datastore/problems.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Store } from "../../datastore/store.ts";
import { badInput, type Call, type Command, forceFlag } from "../command.ts";
import { applyPending, confirmTime } from "../confirming.ts";
import { promote, promotionOf, refuseKubernetes, rehearsed, stagedIn } from "../staged.ts";

/** `staged apply`: staged policies become enforced ones. Calico has no such command. */
export const stagedApply: Command = {
  words: ["staged", "apply"],
  summary: "Enforce staged policies: each becomes the policy that it stands for, or takes it away",
  usage: "KIND [NAME...] | --all",
  flags: [
    {
      name: "namespace",
      short: "n",
      value: "NAME",
      help: "namespace of the named ones, default `default`; else only those in it",
    },
    { name: "all", help: "every staged policy" },
    { name: "confirm", value: "TIME", help: "undo it all after TIME (60s, 2m) unless `confirm` comes" },
    forceFlag,
  ],
  examples: ["diff --staged", "staged apply stagednetworkpolicy allow-web -n shop", "staged apply sgnp --confirm 60s"],
  async run(call) {
    if (call.args.length === 0 && !call.flags.on("all")) {
      throw badInput(
        "say which staged policies to enforce",
        "KIND [NAME...], or --all; `diff --staged` shows what would change",
      );
    }
    const confirm = call.flags.text("confirm"), seconds = confirm === undefined ? undefined : confirmTime(confirm);
    const resources = await call.resources();
    if (seconds !== undefined) return await enforcePending(call, await stagedIn(call, resources), seconds);
    const { out, err } = call.surroundings;
    let failed = 0;
    for (const staged of await stagedIn(call, resources)) {
      const name = identify(staged.kind, staged.metadata.name, staged.metadata.namespace),
        promotion = promotionOf(staged);
      try {
        refuseKubernetes(staged);
        await promote(staged, resources);
        out("nothing" in promotion ? `${name} stays: ${promotion.nothing}\n` : `${name} is enforced\n`);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        failed++;
        err(`${name} is not enforced: ${messageOf(error)}\n`);
      }
    }
    return failed > 0 ? 1 : 0;
  },
};

/** All of them in one transaction, or none; undone unless somebody confirms it. */
async function enforcePending(call: Call, staged: readonly Resource[], seconds: number): Promise<number> {
  staged.forEach(refuseKubernetes);
  const { clock, uuid } = call.surroundings;
  const outcome = { total: staged.length, handled: staged.length, errors: [], done: [], kind: staged[0]?.kind };
  const tryOut = async (store: Store) => ({ rehearsal: await rehearsed(staged, store, { clock, uuid }), outcome });
  return await applyPending(call, tryOut, seconds);
}
