import { html } from "hono/html";
import { parseJson } from "../../lib/json64.ts";
import { messageOf, Problem } from "../../lib/problem.ts";
import type { DropReport } from "../../agent/drops/report.ts";
import { dropText } from "../../agent/drops/words.ts";
import { LiveWorld } from "../../agent/why/live_world.ts";
import { streamed } from "../events.ts";
import type { ApiParts } from "../parts.ts";
import { page } from "./layout.ts";

/** What this host drops, while somebody looks. */
export function dropsPage({ host }: ApiParts): Response {
  return page(
    "/drops",
    `Drops of ${host}`,
    html`
      <p class="note" id="state">connecting …</p>
      <pre id="drops"></pre>
      <p class="note">As <code>tortie ctl watch drops</code> tells them, the newest first.</p>
    `,
    "/drops.js",
  );
}

/** Shows events of /drops/events; text only, so that nothing of a packet becomes markup. */
export const dropsScript = `
const state = document.getElementById("state"), list = document.getElementById("drops");
const source = new EventSource("/drops/events");
source.addEventListener("state", (e) => { state.textContent = JSON.parse(e.data); });
source.addEventListener("drop", (e) => {
  list.prepend(JSON.parse(e.data) + "\\n");
  while (list.childNodes.length > 200) list.lastChild.remove();
});
source.addEventListener("end", () => source.close());
source.addEventListener("error", () => { state.textContent = "the connection was lost; trying again …"; });
`;

/** An event whose data is one text, as JSON. */
const event = (name: "state" | "drop" | "end", text: string): string =>
  `event: ${name}\ndata: ${JSON.stringify(text)}\n\n`;

/** Drops as server-sent events, an hour at most: `state`, `drop`, and `end` after which nothing comes. */
export function dropEvents({ agent, store, clock, signal: ending }: ApiParts, left: AbortSignal): Response {
  const stop = new AbortController();
  const signal = AbortSignal.any([ending, left, stop.signal]);
  async function* texts(): AsyncGenerator<string> {
    try {
      const world = await LiveWorld.open(store, clock, signal);
      for await (const line of agent.lines("/v1/drops?for=3600", signal)) {
        if (line === "") yield ": still here\n\n";
        else yield told(parseJson(line) as unknown as DropReport, world);
      }
      yield event("state", "the agent ended it");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      yield event("state", messageOf(error));
    } finally {
      stop.abort(new Error("nobody watches any more"));
    }
    yield event("end", "");
  }
  return streamed(texts(), stop);
}

function told(report: DropReport, world: LiveWorld): string {
  if (report.is === "drop") return event("drop", dropText(report, world.now()));
  if (report.is === "watching") return event("state", `watching what ${report.node} drops`);
  if (report.is === "left out") return event("drop", `${report.packets} more packets were dropped\n`);
  return event("state", `the end: ${report.why}`);
}
