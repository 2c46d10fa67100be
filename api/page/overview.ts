import { html } from "hono/html";
import { Resources } from "../../datastore/resources.ts";
import { version } from "../../lib/version.ts";
import type { ApiParts } from "../parts.ts";
import { basePath } from "../resources.ts";
import { page, table } from "./layout.ts";

/** Kinds that are counted, and the page that tells more. */
const counted = [
  ["Node", "nodes", ""],
  ["WorkloadEndpoint", "workloads", "/endpoints"],
  ["HostEndpoint", "host endpoints", "/endpoints"],
  ["NetworkPolicy", "policies", "/policies"],
  ["GlobalNetworkPolicy", "global policies", "/policies"],
  ["IPPool", "pools", "/ipam"],
] as const;

/** What there is, and how this process is. */
export async function overviewPage({ store, health, host }: ApiParts): Promise<Response> {
  const resources = new Resources(store);
  const lists = await Promise.all(counted.map(([kind]) => resources.list(kind)));
  const tiles = counted.map(([kind, name, to], i) =>
    html`<a class="tile" href="${to || `${basePath}/${kind.toLowerCase()}s`}"><strong>${
      lists[i]!.items.length
    }</strong>${name}</a>`
  );
  const rows = health.parts().map(({ name, live, ready, why }) => [
    ...[
      name,
      html`<span class="${live && ready ? "good" : "bad"}">${live ? ready ? "ready" : "not ready" : "silent"}</span>`,
    ],
    why ?? "",
  ]);
  const nodes = lists[0]!.items.map(({ metadata, spec }) => {
    const bgp = spec.bgp as { ipv4Address?: string; ipv6Address?: string } | undefined;
    return [metadata.name, bgp?.ipv4Address ?? "", bgp?.ipv6Address ?? ""];
  });
  return page(
    "/",
    "Overview",
    html`
      <div class="tiles">${tiles}</div>
      <h2>This process (${host}, tortie ${version})</h2>
      ${table(["part", "state", "why"], rows, "Only the API runs here.")}
      <h2>Nodes</h2>
      ${table(["name", "IPv4", "IPv6"], nodes, "No node is known.")}
      <p class="note">For programs: <a href="/openapi.json">OpenAPI</a>, <a href="${basePath}">${basePath}</a>, <a
      href="/metrics">metrics</a>.</p>
    `,
  );
}
