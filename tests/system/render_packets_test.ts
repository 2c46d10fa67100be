import assert from "node:assert/strict";
import { chainLines } from "../../agent/netfilter/iptables_text.ts";
import type { Case } from "../cases/case_runner.ts";
import { renderedCase } from "../cases/runners/render.ts";
import type { ChainText } from "../packets/loader.ts";
import { RenderComparison } from "../packets/render_comparison.ts";
import { makeRenderNetwork } from "../packets/render_network.ts";
import { type Setup, setupOf } from "../packets/render_setup.ts";
import type { NetfilterSettings } from "../../agent/netfilter/model.ts";
import { enterOwnNetns } from "./_own_netns.ts";

/** A recorded case with Felix's chains, ours, and how they are probed. */
interface Rendered {
  id: string;
  what: string;
  felix: ChainText[];
  ours: ChainText[];
  setup: Setup;
  settings: NetfilterSettings;
}

const file = new URL("../cases/render.json", import.meta.url);
const rendered = (JSON.parse(Deno.readTextFileSync(file)).cases as Case[])
  .filter(({ input }) => input.backend !== "nft")
  .map((one): Rendered => {
    const { chains, settings } = renderedCase(one);
    const recorded = (one.expect as { chains: { name: string; rules: string[] }[] }).chains;
    const felix = recorded.map((c) => ({ name: c.name, lines: c.rules }));
    const ours = chains.map((c) => ({
      name: c.name,
      lines: chainLines(c, { family: settings.family, randomFully: true }).lines,
    }));
    const { kind, table } = one.input as { kind: string; table: "filter" };
    return {
      id: one.id,
      what: one.what,
      felix,
      ours,
      setup: setupOf({ kind, table, settings, chains: felix }),
      settings,
    };
  });

/** A case that renders nothing has nothing to probe: staged policies. */
const probed = rendered.filter((r) => r.felix.length > 0);

Deno.test("packets fare the same in Felix's recorded chains and in ours", async (t) => {
  await using _own = await enterOwnNetns("h10");
  await using left = await makeRenderNetwork("legacy");
  await using right = await makeRenderNetwork("legacy");
  const comparison = new RenderComparison(left, right);
  let packets = 0, delivered = 0;
  for (const { id, what, felix, ours, setup, settings } of probed) {
    await t.step(`${id}: ${what}`, async () => {
      const found = await comparison.compare(felix, ours, setup, settings);
      assert.deepEqual(found.differences, []);
      assert.ok(found.packets >= 30, `only ${found.packets} packets`);
      // IPv6 neighbour discovery passes at host endpoints, which Felix forgot.
      assert.equal(found.better > 0, id === "static-06");
      packets += found.packets;
      delivered += found.delivered;
    });
  }
  console.log(`${probed.length} cases, ${packets} packets in each network, ${delivered} delivered`);
  assert.deepEqual(rendered.filter((r) => r.felix.length === 0).map((r) => r.ours), [[]]);
});

/** Cases whose lines decide nothing: an empty policy, one that only logs, and what is switched off. */
const undecided = ["policy-03", "policy-50", "nat-outgoing-06", "cidr-block-03"];

Deno.test("a line that is missing in any case's chains is noticed", async (t) => {
  await using _own = await enterOwnNetns("h10");
  await using left = await makeRenderNetwork("nft");
  await using right = await makeRenderNetwork("nft");
  const comparison = new RenderComparison(left, right);
  for (const { id, felix, ours, setup, settings } of probed.filter((r) => !undecided.includes(r.id))) {
    await t.step(id, async () => {
      assert.deepEqual((await comparison.compare(felix, ours, setup, settings)).differences, []);
      // Some lines change nothing alone: those that log, or clear what is clear. One that does is enough.
      for (const [i, chain] of ours.entries()) {
        for (const at of chain.lines.keys()) {
          const cut = { name: chain.name, lines: chain.lines.toSpliced(at, 1) };
          const found = await comparison.again(ours.with(i, cut), setup, settings);
          if (found.differences.length > 0) return;
        }
      }
      assert.fail("every line can be left out, one at a time, and no packet fares differently");
    });
  }
});
