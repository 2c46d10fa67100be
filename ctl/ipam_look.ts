import type { Node } from "../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../datastore/kinds/workload_endpoint.ts";
import type { Resources } from "../datastore/resources.ts";
import { coldReader, type View, viewOf } from "../ipam/view.ts";
import { Problem } from "../lib/problem.ts";
import { type Check, checkIpam } from "./ipam_check.ts";

/** A look at IPAM's records and at who uses addresses. */
export interface Look {
  view: View;
  check: Check;
  /** Names of the nodes that exist. */
  nodes: Set<string>;
}

/**
 * Reads IPAM's records first and users afterwards: an address whose user came between the two is found used, and one whose
 * user went is looked at again before anything is released.
 * @throws Problem "undecodable" when an endpoint or node cannot be read: its addresses would seem to be used by nobody.
 */
export async function look(resources: Resources): Promise<Look> {
  const view = viewOf(await coldReader(resources.store));
  const nodes = await resources.list<Node>("Node");
  const endpoints = await resources.list<WorkloadEndpoint>("WorkloadEndpoint");
  const [broken] = [...nodes.undecodable, ...endpoints.undecodable];
  if (broken) {
    const what = `a stored value cannot be read, so that nobody knows which addresses it uses: ${broken.why}`;
    throw new Problem({ code: "undecodable", what, where: broken.key, todo: "Repair or delete it first" });
  }
  const check = checkIpam(view, { nodes: nodes.items, endpoints: endpoints.items });
  return { view, check, nodes: new Set(nodes.items.map((node) => node.metadata.name)) };
}
