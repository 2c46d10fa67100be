import { html } from "hono/html";
import type { ApiParts } from "../parts.ts";
import { page, table } from "./layout.ts";

/** BGP sessions of this host. */
export async function bgpPage({ host, sessions }: ApiParts): Promise<Response> {
  const known = await sessions();
  const rows = (known ?? []).map(({ peer, asNumber, kind, state, since, routes, lastError }) => [
    ...[peer, asNumber ?? "", kind.replaceAll("_", " ")],
    html`<span class="${state === "Established" ? "good" : "bad"}">${state}</span>`,
    ...[since, routes?.imported ?? "", routes?.exported ?? "", lastError ?? ""],
  ]);
  const heads = ["peer", "AS", "kind", "state", "since", "routes in", "routes out", "last error"];
  return page(
    "/bgp",
    `BGP sessions of ${host}`,
    table(heads, rows, known ? "BIRD runs and has no peer." : "BIRD does not run here."),
  );
}
