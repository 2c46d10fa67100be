import { type Port, portRange } from "../schema/scalars.ts";

/** One entry of a rule's port list: neither member = everything. */
export interface ProtocolPort {
  /** "TCP"; "" = any, for a port that has only a name. */
  protocol?: string;
  /** Undefined = all ports of the protocol. */
  port?: Port;
}

/**
 * The protocols of a rule in order of their names, each with its ports; `undefined` ports mean all of them. Without
 * entries, or with one that asks for nothing, the only protocol is "": any.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/conversion.go, k8sRuleToCalico.
 */
export function portsByProtocol(entries: ProtocolPort[]): [protocol: string, ports: Port[] | undefined][] {
  if (entries.length === 0 || entries.some((e) => e.protocol === undefined && e.port === undefined)) {
    return [["", undefined]];
  }
  const found = new Map<string, Port[] | undefined>();
  for (const { protocol = "", port } of entries) {
    if (port === undefined) found.set(protocol, undefined);
    else if (!found.has(protocol) || found.get(protocol)) {
      found.set(protocol, [...found.get(protocol) ?? [], port]);
    }
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([protocol, ports]) => [
    protocol,
    ports && merged(ports),
  ]);
}

/**
 * As few entries as cover the same ports: names first in their order, then numbers that touch as ranges. A list with
 * fewer than two numbers stays as it is.
 */
function merged(ports: Port[]): Port[] {
  const ranges = ports.map(portRange).filter((range) => range !== undefined);
  if (ports.length < 2 || ranges.reduce((n, [low, high]) => n + high - low + 1, 0) < 2) return ports;
  const joined: [number, number][] = [];
  for (const [low, high] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  const numbers = joined.map(([low, high]): Port => (low === high ? low : `${low}:${high}`));
  return [...ports.filter((port) => !portRange(port)), ...numbers];
}
