import { parseQuantity } from "./quantity.ts";

/** `spec.qosControls` of a WorkloadEndpoint; rates in bits or packets a second, bursts in bits or packets. */
export type QosControls = Record<string, number | bigint | string>;

/** What a pod's annotations ask for, and what in them could not be followed. */
export interface QosResult {
  /** Undefined when nothing is asked for. */
  controls: QosControls | undefined;
  problems: string[];
}

interface Limit {
  /** Member of qosControls without its direction: `Bandwidth` of `ingressBandwidth`. */
  control: string;
  words: string;
  min: string;
  max: string;
}

const limits: Limit[] = [
  { control: "Bandwidth", words: "bandwidth", min: "1k", max: "1P" },
  { control: "Burst", words: "burst", min: "1k", max: "34359738360" },
  { control: "Peakrate", words: "peakrate", min: "1.01k", max: "1.01P" },
  { control: "Minburst", words: "minburst", min: "1k", max: "100M" },
  { control: "PacketRate", words: "packet rate", min: "1", max: "10k" },
  { control: "PacketBurst", words: "packet burst", min: "1", max: "10k" },
  { control: "MaxConnections", words: "max connections", min: "1", max: "4294967295" },
];

const defaultBurst = 4n << 30n;
const defaultPacketBurst = 5n;

/**
 * The QoS annotations of a pod (`qos.projectcalico.org/…`, `kubernetes.io/{ingress,egress}-bandwidth`). A value out of
 * its range is moved to the nearest end; one without its companion (a burst without a bandwidth) is dropped.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go.
 */
export function qosOf(annotations: Record<string, string>): QosResult {
  const problems: string[] = [];
  const controls: QosControls = {};
  for (const direction of ["ingress", "egress"]) {
    const values = readLimits(annotations, direction, problems);
    dropLonely(values, direction, problems);
    if (values.get("Bandwidth") && !values.get("Burst")) values.set("Burst", defaultBurst);
    if (values.get("PacketRate") && !values.get("PacketBurst")) values.set("PacketBurst", defaultPacketBurst);
    for (const [control, value] of values) if (value) controls[direction + control] = exact(value);
  }
  const dscp = annotations["qos.projectcalico.org/dscp"];
  if (dscp !== undefined) {
    const value = dscpOf(dscp);
    if (value !== undefined) controls.dscp = value;
    else problems.push(`qos.projectcalico.org/dscp: "${dscp}" is not a DSCP value`);
  }
  return { controls: Object.keys(controls).length > 0 ? controls : undefined, problems };
}

function readLimits(
  annotations: Record<string, string>,
  direction: string,
  problems: string[],
): Map<string, bigint | undefined> {
  const values = new Map<string, bigint | undefined>();
  for (const limit of limits) {
    const names = [`qos.projectcalico.org/${direction}${limit.control}`];
    if (limit.control === "Bandwidth") names.push(`kubernetes.io/${direction}-bandwidth`);
    const name = names.find((n) => annotations[n] !== undefined);
    if (name) values.set(limit.control, withinLimit(annotations[name]!, limit, name, problems));
  }
  return values;
}

function withinLimit(text: string, limit: Limit, name: string, problems: string[]): bigint | undefined {
  const value = parseQuantity(text);
  const min = parseQuantity(limit.min)!, max = parseQuantity(limit.max)!;
  if (value === undefined) problems.push(`${name}: "${text}" is not a quantity`);
  else if (value < min) problems.push(`${name}: ${text} is less than ${limit.min}, which is taken`);
  else if (value > max) problems.push(`${name}: ${text} is more than ${limit.max}, which is taken`);
  return value === undefined ? undefined : value < min ? min : value > max ? max : value;
}

function dropLonely(values: Map<string, bigint | undefined>, direction: string, problems: string[]): void {
  const need = (control: string, other: string, ok = Boolean(values.get(other))) => {
    if (!values.get(control) || ok) return;
    values.delete(control);
    problems.push(`${direction}${control} needs ${direction}${other}`);
  };
  need("Burst", "Bandwidth");
  const bandwidth = values.get("Bandwidth"), peakrate = values.get("Peakrate");
  need("Peakrate", "Bandwidth", Boolean(bandwidth && peakrate && bandwidth < peakrate));
  need("Minburst", "Peakrate");
  need("PacketBurst", "PacketRate");
}

const exact = (value: bigint): number | bigint => value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

const dscpNames = new Set([
  ...["DF", "EF"],
  ...[0, 1, 2, 3, 4, 5, 6].map((n) => `CS${n}`),
  ...[1, 2, 3, 4].flatMap((n) => [1, 2, 3].map((m) => `AF${n}${m}`)),
]);

/** A name that Calico knows (RFC 2474, 2597, 3246) in upper case, or a number 0-63 as the text it was given in. */
function dscpOf(text: string): string | undefined {
  const name = text.trim().toUpperCase();
  if (dscpNames.has(name)) return name;
  return /^\d+$/.test(text) && Number(text) <= 63 ? text : undefined;
}
