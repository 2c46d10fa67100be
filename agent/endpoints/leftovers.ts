import { type Cidr, cidrOf, type Ip, ipAt, tryParseCidr } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import { blockKey, handleKey, handlePrefix } from "../../datastore/keys.ts";
import type { KeyValue } from "../../datastore/store.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import { attributeOf, type Block, decodeBlock, handleOf, ordinalAt, ordinalsOf } from "../../ipam/block.ts";
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
 * has exactly that containerID, or when none has it and the rest has no dot.
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
    if (own.length === 0 && endpoints.some((e) => id.endsWith(`.${e.endpoint.spec.containerID}`))) continue;
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
    const given = blocksOf(reader, text, id).some((block) =>
      ordinalsOf(block, id).some((ordinal) => {
        const secondary = attributeOf(block, ordinal)?.secondary as { node?: string } | null | undefined;
        return secondary?.node === node;
      })
    );
    return given ? "yes" : "no";
  } catch (error) {
    if (isProblem(error)) return "unreadable";
    throw error;
  }
}

/** Addresses that a handle holds. @throws Problem "undecodable". */
export function addressesUnder(reader: Pick<Reader, "get">, handle: string): Ip[] {
  const text = reader.get(handleKey(handle))?.value;
  if (text === undefined) return [];
  return blocksOf(reader, text, handle).flatMap((block) =>
    ordinalsOf(block, handle).map((ordinal) => ipAt(block.cidr, ordinal))
  );
}

/** The blocks that a stored handle names, as far as they exist. @throws Problem "undecodable". */
function blocksOf(reader: Pick<Reader, "get">, text: string, id: string): Block[] {
  return [...decodeHandle(text, id).counts.keys()].flatMap((name) => {
    const cidr = tryParseCidr(name);
    const kv = cidr && reader.get(blockKey(cidr));
    return kv ? [decodeBlock(kv.value, kv.key)] : [];
  });
}

/** The block that an address lies in; undefined when there is none. */
export function blockHolding(reader: Pick<Reader, "get">, ip: Ip): KeyValue & { cidr: Cidr } | undefined {
  const [smallest, largest] = ip.v === 4 ? [32, 20] : [128, 116];
  for (let len = smallest; len >= largest; len--) {
    const cidr = cidrOf(ip, len);
    const kv = reader.get(blockKey(cidr));
    if (kv) return { ...kv, cidr };
  }
  return undefined;
}

/** The handle that an address is held under; undefined when none is known. */
export function handleHolding(reader: Pick<Reader, "get">, ip: Ip): string | undefined {
  const kv = blockHolding(reader, ip);
  if (!kv) return undefined;
  try {
    const block = decodeBlock(kv.value, kv.key);
    return handleOf(attributeOf(block, ordinalAt(block, ip)!));
  } catch (error) {
    if (isProblem(error)) return undefined;
    throw error;
  }
}
