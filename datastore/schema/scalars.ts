import type { FieldProblem } from "../../lib/problem.ts";
import { canonicalDuration, parseDuration } from "../duration.ts";
import { type FieldOptions, type Pattern, type Refuse, scalar, tagReason } from "./fields.ts";
import { isPortName } from "../names.ts";
import type { Field } from "./schema.ts";

/** A port of a rule: a number, a range `"8000:8080"`, or the name of a port of the endpoint. */
export type Port = number | string;
/** An IP protocol: a number 0-255 or a name such as `TCP`. */
export type Protocol = number | string;
/** A DSCP value: 0-63, or a name such as `EF`. */
export type Dscp = number | string;

const ports = { type: ["integer", "string"], maximum: 65535, examples: [443, "8000:8080", "http"] };
const protocols = { type: ["integer", "string"], maximum: 255, examples: ["TCP", 132] };
const dscps = { type: ["integer", "string"], maximum: 255, examples: ["EF", 46] };
const asNumbers = { type: ["integer", "string"], maximum: 0xffff_ffff, examples: [64512, "1.5"] };

/** A Go duration (`90s`), kept in its canonical form (`1m30s`). */
export function duration(
  options: FieldOptions<string> & { pattern?: Pattern } = {},
): Field<string, "nonzero"> {
  return scalar({
    blank: "",
    wanted: "duration",
    schema: () => ({ type: "string", format: "duration", examples: ["90s"] }),
    read(value) {
      const ns = typeof value === "string" ? parseDuration(value) : undefined;
      return ns === undefined ? undefined : canonicalDuration(ns);
    },
    check(value: string, path: string, problems: FieldProblem[]) {
      const { pattern } = options;
      if (!pattern || pattern.test.test(value)) return;
      problems.push({ field: path, value, reason: `${path} in body should match '${pattern.text}'` });
    },
  }, options);
}

/**
 * A port of a rule. `"443"` and `"443:443"` become 443. Its value is checked with the rule that holds it.
 * Source: Calico api/pkg/lib/numorstring/port.go.
 */
export function port(options: FieldOptions<Port> = {}): Field<Port, "nonzero"> {
  return scalar<Port>({ blank: 0, wanted: "port", schema: () => ports, read: readPort }, {
    rules: checkPort,
    ...options,
  });
}

/** A protocol. A string of digits becomes the number. */
export function protocol(options: FieldOptions<Protocol> = {}): Field<Protocol, "nonzero"> {
  return scalar<Protocol>({ blank: 0, wanted: "protocol", schema: () => protocols, read: readUint8OrText }, {
    rules: checkProtocol,
    ...options,
  });
}

/** A DSCP value. */
export function dscp(options: FieldOptions<Dscp> = {}): Field<Dscp, "nonzero"> {
  return scalar<Dscp>({ blank: "", wanted: "DSCP", schema: () => dscps, read: readUint8OrText }, options);
}

/** Kubernetes' IntOrString. */
export function intOrText(): Field<number | string, "nonzero"> {
  const read = (value: unknown) =>
    typeof value === "string" || Number.isInteger(value) ? (value as number | string) : undefined;
  return scalar<number | string>({
    blank: 0,
    wanted: "int or string",
    schema: () => ({ type: ["integer", "string"] }),
    read,
  });
}

/** Least and greatest value of Go's int32. */
export const int32: [number, number] = [-(2 ** 31), 2 ** 31 - 1];

/** An AS number of 32 bits. `"1.5"` (high and low 16 bits) becomes 65541. */
export function asNumber(options: FieldOptions<number> = {}): Field<number, "nonzero"> {
  return scalar<number>({ blank: 0, wanted: "AS number", schema: () => asNumbers, read: readAsNumber }, options);
}

function checkPort(value: Port, refuse: Refuse): void {
  const range = portRange(value);
  if (!range) {
    if (!isPortName(String(value))) refuse("PortName", tagReason("PortName", "portName"), value);
  } else if (range[0] < 1 || range[1] < 1) {
    refuse("Port", "port range invalid, port number must be between 1 and 65535", range[0]);
  }
}

function checkProtocol(value: Protocol, refuse: Refuse): void {
  if (value === 0) refuse("Protocol", "protocol number invalid", value);
  else if (typeof value === "string" && !/^(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite)$/.test(value)) {
    refuse("Protocol", "protocol name invalid", value);
  }
}

/** The canonical form of a port; undefined when it is none. */
export function readPort(value: unknown): Port | undefined {
  if (typeof value === "number") return uint(value, 65535);
  if (typeof value !== "string") return undefined;
  if (/^\d+$/.test(value)) return uint(Number(value), 65535);
  const range = /^(\d+):(\d+)$/.exec(value);
  if (!range) return /^[a-zA-Z0-9_.-]{1,128}$/.test(value) ? value : undefined;
  const [low, high] = [uint(Number(range[1]), 65535), uint(Number(range[2]), 65535)];
  if (low === undefined || high === undefined || low > high) return undefined;
  return low === high ? low : `${low}:${high}`;
}

/** Lowest and highest number of a numeric port or range; undefined for a named port. */
export function portRange(port: Port): [number, number] | undefined {
  if (typeof port === "number") return [port, port];
  const range = /^(\d+):(\d+)$/.exec(port);
  return range ? [Number(range[1]), Number(range[2])] : undefined;
}

function readUint8OrText(value: unknown): number | string | undefined {
  if (typeof value === "number") return uint(value, 255);
  if (typeof value !== "string") return undefined;
  return /^\d+$/.test(value) ? uint(Number(value), 255) ?? value : value;
}

function readAsNumber(value: unknown): number | undefined {
  if (typeof value === "number") return uint(value, 0xffff_ffff);
  if (typeof value !== "string") return undefined;
  if (/^\d+$/.test(value)) return uint(Number(value), 0xffff_ffff);
  const parts = /^(\d+)\.(\d+)$/.exec(value);
  const [high, low] = [uint(Number(parts?.[1]), 65535), uint(Number(parts?.[2]), 65535)];
  return high === undefined || low === undefined ? undefined : high * 65536 + low;
}

const uint = (n: number, max: number): number | undefined => Number.isInteger(n) && n >= 0 && n <= max ? n : undefined;
