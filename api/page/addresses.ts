import { html } from "hono/html";
import { formatCidr, formatIp, ipAt, overlaps, size, tryParseCidrOrIp } from "../../lib/ip.ts";
import type { IPReservation } from "../../datastore/kinds/ip_reservation.ts";
import { Resources } from "../../datastore/resources.ts";
import { attributeOf, type Block, handleOf } from "../../ipam/block.ts";
import { usageOf } from "../../ipam/usage.ts";
import { coldReader, type View, viewOf } from "../../ipam/view.ts";
import type { ApiParts } from "../parts.ts";
import { bar, type Html, page, table } from "./layout.ts";

/** Blocks that are drawn address by address; the others are counted. */
const mostBlocks = 64;

/** How full each pool is, and every block as a map of its addresses. */
export async function addressPage({ store }: ApiParts): Promise<Response> {
  const view = viewOf(await coldReader(store));
  const { items } = await new Resources(store).list<IPReservation>("IPReservation");
  const reserved = items.flatMap((r) => r.spec.reservedCIDRs ?? []).map(tryParseCidrOrIp).filter((c) =>
    c !== undefined
  );
  const pools = view.pools(), usages = usageOf(view, reserved);
  const rows = usages.flatMap(({ pool, blocks }) => {
    if (!pool) return [];
    const named = pools.find((p) => p.cidr.n === pool.cidr.n && p.cidr.len === pool.cidr.len);
    return [[
      ...[named?.name ?? "", html`<code>${formatCidr(pool.cidr)}</code>`, String(pool.total), String(pool.inUse)],
      ...[bar(Number(pool.inUse), Number(pool.total)), String(blocks.length)],
    ]];
  });
  const blocks = [...view.blocks(4), ...view.blocks(6)].map((stored) => stored.value);
  const strays = blocks.filter((b) => !pools.some((p) => overlaps(p.cidr, b.cidr)));
  return page(
    "/ipam",
    "Addresses",
    html`
      ${table(["pool", "network", "addresses", "in use", "", "blocks"], rows, "No pool: no pod can have an address.")}
      <h2>Blocks</h2>
      <p
        class="note">One square an address: <span class="good">used</span>, tunnel blue, <span class="some">cooling down</span>,
      <span class="bad">reserved</span>, grey free. A square tells its address.</p>
      ${blocks.slice(0, mostBlocks).map((block) => blockMap(block, view, strays.includes(block)))}
      ${blocks.length > mostBlocks ? html`<p class="note">and ${blocks.length - mostBlocks} more blocks</p>` : ""}
      ${view.problems().map((problem) => html`<p class="bad">${problem.message}</p>`)}
    `,
  );
}

/** Squares of a block that are drawn; a /20 has more than a page is for. */
const mostSquares = 256;

function blockMap(block: Block, view: View, stray: boolean): Html {
  const squares = block.allocations.slice(0, mostSquares).map((index, ordinal) => {
    const ip = ipAt(block.cidr, ordinal), attribute = index === null ? undefined : attributeOf(block, ordinal);
    const reserved = view.reservations().has(ip);
    const what = !attribute
      ? reserved ? "reserved" : "free"
      : attribute.releasedAt
      ? "cooling"
      : /-tunnel-addr-/.test(handleOf(attribute) ?? "")
      ? "tunnel"
      : "used";
    const owner = attribute ? ` ${handleOf(attribute) ?? "without a handle"}` : "";
    return html`<i class="${what}" title="${formatIp(ip)} ${what}${owner}"></i>`;
  });
  const used = block.allocations.filter((index) => index !== null).length;
  return html`
    <div><code>${formatCidr(block.cidr)}</code> ${block.affinity?.replace(/^host:/, "") ?? "of no node"}:
    ${used} of ${String(size(block.cidr))} ${stray ? html`<span class="bad">in no pool</span>` : ""}</div>
    <div class="block">${squares}</div>
  `;
}
