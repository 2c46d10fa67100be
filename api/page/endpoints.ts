import { html } from "hono/html";
import type { HostEndpoint } from "../../datastore/kinds/host_endpoint.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import { Resources } from "../../datastore/resources.ts";
import type { ApiParts } from "../parts.ts";
import { type Html, page, table } from "./layout.ts";

/** Labels as `a=b`, one a line. */
const labels = (all: Record<string, string> = {}): Html =>
  html`${Object.entries(all).sort().map(([k, v]) => html`<code>${k}=${v}</code><br>`)}`;

/** Workloads and hosts, by node. */
export async function endpointsPage({ store }: ApiParts): Promise<Response> {
  const resources = new Resources(store);
  const [workloads, hosts] = await Promise.all([
    resources.list<WorkloadEndpoint>("WorkloadEndpoint"),
    resources.list<HostEndpoint>("HostEndpoint"),
  ]);
  const rows = workloads.items.map(({ metadata, spec }) => [
    ...[metadata.namespace ?? "", spec.pod || spec.workload || metadata.name, spec.node ?? ""],
    (spec.ipNetworks ?? []).map((net) => net.replace(/\/(32|128)$/, "")).join(", "),
    ...[spec.interfaceName ?? "", labels(metadata.labels)],
  ]);
  const hostRows = hosts.items.map(({ metadata, spec }) => [
    ...[metadata.name, spec.node ?? "", spec.interfaceName || "(by address)"],
    ...[(spec.expectedIPs ?? []).join(", "), labels(metadata.labels)],
  ]);
  const unreadable = [...workloads.undecodable, ...hosts.undecodable];
  return page(
    "/endpoints",
    "Endpoints",
    html`
      <h2>Workloads (${rows.length})</h2>
      ${table(
        ["namespace", "pod", "node", "addresses", "interface", "labels"],
        rows,
        "No workload has an address yet.",
      )}
      <h2>Hosts (${hostRows.length})</h2>
      ${table(
        ["name", "node", "interface", "expected addresses", "labels"],
        hostRows,
        "No host endpoint: hosts are not protected.",
      )}
      ${unreadable.map(({ key, why }) => html`<p class="bad">${key} cannot be read: ${why}</p>`)}
    `,
  );
}
