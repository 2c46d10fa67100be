import { tryParseCidr } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import { blockKey, handlePrefix } from "../../datastore/keys.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import { attributeOf, type Block, decodeBlock, ordinalsOf } from "../../ipam/block.ts";
import { decodeHandle } from "../../ipam/handle.ts";
import type { Reader } from "../../ipam/view.ts";

/** A container that holds something of a network here. */
export interface Holder {
  containerId: string;
  /** Its endpoint, when it has one. */
  endpointKey?: string;
  hostInterface?: string;
  /** Interface in the container; "" when only addresses are known. */
  interfaceName: string;
}

/** What was found, and handles of which we cannot say whose they are. */
export interface Holders {
  holders: Holder[];
  /** Handles that may belong to another network whose name begins like this one, or that cannot be read. */
  unclear: string[];
}

/**
 * Containers of this node that hold addresses of a network: those of the handles `<network>.<containerID>` with an address
 * that this node gave. A network `a` and a network `a.b` share a beginning; a handle counts for `a` only when an endpoint
 * has exactly that containerID, or when the rest has no dot.
 * @param endpoints those of this node.
 */
export function holdersOf(
  reader: Pick<Reader, "get" | "list">,
  node: string,
  network: string,
  endpoints: { key: string; endpoint: WorkloadEndpoint }[],
): Holders {
  const found: Holders = { holders: [], unclear: [] };
  const prefix = `${handlePrefix}${network}.`;
  for (const kv of reader.list(prefix)) {
    const id = kv.key.slice(handlePrefix.length), containerId = kv.key.slice(prefix.length);
    const ours = isOfNode(reader, kv.value, id, node);
    if (ours === "no") continue;
    const own = endpoints.filter((e) => e.endpoint.spec.containerID === containerId);
    if (ours === "unreadable" || own.length === 0 && containerId.includes(".")) found.unclear.push(id);
    else if (own.length === 0) found.holders.push({ containerId, interfaceName: "" });
    for (const { key, endpoint } of ours === "yes" ? own : []) {
      const { interfaceName: hostInterface, endpoint: interfaceName = "" } = endpoint.spec;
      found.holders.push({ containerId, endpointKey: key, hostInterface, interfaceName });
    }
  }
  return found;
}

/** Whether an address of the handle was given by this node. */
function isOfNode(
  reader: Pick<Reader, "get">,
  text: string,
  id: string,
  node: string,
): "yes" | "no" | "unreadable" {
  try {
    for (const name of decodeHandle(text, id).counts.keys()) {
      const cidr = tryParseCidr(name);
      const kv = cidr && reader.get(blockKey(cidr));
      if (kv && givenBy(decodeBlock(kv.value, kv.key), id, node)) return "yes";
    }
    return "no";
  } catch (error) {
    if (isProblem(error)) return "unreadable";
    throw error;
  }
}

function givenBy(block: Block, id: string, node: string): boolean {
  return ordinalsOf(block, id).some((ordinal) => {
    const secondary = attributeOf(block, ordinal)?.secondary as { node?: string } | null | undefined;
    return secondary?.node === node;
  });
}
