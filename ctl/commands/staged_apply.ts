import { messageOf, Problem } from "../../lib/problem.ts";
import { identify } from "../../datastore/problems.ts";
import { badInput, type Command, forceFlag } from "../command.ts";
import { promote, promotionOf, refuseKubernetes, stagedIn } from "../staged.ts";

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
    forceFlag,
  ],
  examples: ["diff --staged", "staged apply stagednetworkpolicy allow-web -n shop", "staged apply sgnp"],
  async run(call) {
    if (call.args.length === 0 && !call.flags.on("all")) {
      throw badInput(
        "say which staged policies to enforce",
        "KIND [NAME...], or --all; `diff --staged` shows what would change",
      );
    }
    const resources = await call.resources();
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
