import { html } from "hono/html";
import { storedResources } from "../../datastore/resources.ts";
import { type Reach, reachTable } from "../../agent/why/reach.ts";
import { World } from "../../agent/why/world.ts";
import type { ApiParts } from "../parts.ts";
import { type Html, page } from "./layout.ts";

/** Groups of endpoints that one picture shows. */
const mostGroups = 60;

/** Who reaches whom, as the policies of the datastore say: a row sends, a column receives. */
export async function reachPage({ store }: ApiParts): Promise<Response> {
  const { groups, reach, left } = reachTable(new World(await storedResources(store)), mostGroups);
  const named = groups.map(({ name, size }) => (size > 1 ? `${name} and ${size - 1} like it` : name));
  const rows = reach.map((row, i) =>
    html`<tr><th class="side">${named[i]}</th>${row.map((r, j) => cell(r, named[i]!, named[j]!))}</tr>\n`
  );
  return page(
    "/reach",
    "Who reaches whom",
    groups.length === 0 ? html`<p class="empty">No endpoint and no node is known.</p>` : html`
      <p class="note">A row sends, a column receives. <span class="good">All</span>, <span class="some">some</span> or
      <span class="bad">none</span> of the ports that rules name passes, and of one that none names; a square tells which.
      <code>tortie ctl why FROM TO TCP/PORT</code> tells the reason.</p>
      <table class="reach">
        <thead>
          <tr><th></th>${named.map((name) => html`<th class="top">${name}</th>`)}</tr>
        </thead>
        <tbody>${rows}</tbody>
      </table>
      ${left > 0 ? html`<p class="note">${left} more groups of endpoints are not shown.</p>` : ""}
    `,
  );
}

function cell(reach: Reach | undefined, from: string, to: string): Html {
  if (!reach) return html`<td class="self"></td>`;
  const words = (what: string, names: string[]) => (names.length > 0 ? `\n${what}: ${names.join(", ")}` : "");
  const title = `${from} → ${to}${words("passes", reach.allowed)}${words("denied", reach.denied)}`;
  return html`<td class="${reach.is === "all" ? "all" : reach.is === "none" ? "none" : "part"}" title="${title}"></td>`;
}
