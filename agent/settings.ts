import { durationMs } from "../datastore/duration.ts";
import { parameterNames } from "../datastore/kinds/felix_configuration.ts";
import { tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";

/** Where a parameter may be said, strongest first. Values of specs are JSON, those of the environment are text. */
export interface SettingSources {
  /** FELIX_<PARAMETER> of this process. */
  env: (name: string) => string | undefined;
  /** Spec of FelixConfiguration `node.<this node>`. */
  ofNode?: Record<string, unknown>;
  /** Spec of FelixConfiguration `default`. */
  ofCluster?: Record<string, unknown>;
}

/** A value that is not understood; the next weaker source holds. */
export interface SettingProblem {
  /** `FELIX_REMOVEEXTERNALROUTES`, or `removeExternalRoutes` of a FelixConfiguration. */
  setting: string;
  value: unknown;
}

/** A value from JSON or text; undefined = not understood. */
export type Read<T> = (value: unknown) => T | undefined;

/** One parameter: its name in FelixConfiguration, how it is read, and Calico's default. */
export type Row<T> = [name: string, read: Read<T>, otherwise: T];

/** Resolves each row: environment, then this node's FelixConfiguration, then the cluster's, then the default. */
export function resolveSettings<S extends object>(
  rows: { [K in keyof S]: Row<S[K]> },
  sources: SettingSources,
): { settings: S; problems: SettingProblem[] } {
  const problems: SettingProblem[] = [];
  const resolve = ([name, read, otherwise]: Row<unknown>): unknown => {
    const variable = `FELIX_${(parameterNames[name] ?? name).toUpperCase()}`;
    const said = [[variable, sources.env(variable)], [name, sources.ofNode?.[name]], [name, sources.ofCluster?.[name]]];
    for (const [setting, value] of said) {
      if (value === undefined || value === null || value === "") continue;
      const result = read(value);
      if (result !== undefined) return result;
      problems.push({ setting: String(setting), value });
    }
    return otherwise;
  };
  const all = Object.entries(rows).map(([key, row]) => [key, resolve(row as Row<unknown>)]);
  return { settings: Object.fromEntries(all) as S, problems };
}

/** true, false, and the other words that Felix takes for them. */
export const flag: Read<boolean> = (value) => {
  if (typeof value === "boolean") return value;
  const text = String(value).toLowerCase();
  if (["true", "1", "yes", "y", "t"].includes(text)) return true;
  return ["false", "0", "no", "n", "f"].includes(text) ? false : undefined;
};

/** Enabled or Disabled. */
export const enabled: Read<boolean> = (value) => value === "Enabled" ? true : value === "Disabled" ? false : undefined;

/** A whole number; the environment may write it in hexadecimal. */
export const integer = (min: number, max: number): Read<number> => (value) => {
  const n = Number(value);
  return Number.isInteger(n) && n >= min && n <= max ? n : undefined;
};

/** The environment says seconds as a plain number, JSON a duration with units. */
export const milliseconds: Read<number> = (value) => {
  const ms = /^\d+(\.\d+)?$/.test(String(value)) ? Number(value) * 1000 : durationMs(String(value));
  return ms !== undefined && ms >= 0 ? ms : undefined;
};

/** One of some words, in any case, in its lower-case form. */
export const word = <W extends string>(...words: W[]): Read<W> => (value) =>
  words.find((w) => w === String(value).toLowerCase());

/** Any text. */
export const anyText: Read<string> = (value) => (typeof value === "string" ? value : undefined);

/** An address of one version, as it is written. */
export const addressText = (v: 4 | 6): Read<string> => (value) =>
  tryParseIp(String(value))?.v === v ? String(value) : undefined;

/** `tcp:22`, `udp:[fd00::/8]:68`, `10.0.0.0/8` between the two; a bare number is TCP and UDP alike with Felix: TCP here. */
export interface HostPort {
  protocol: string;
  port: number;
  net?: string;
}

/** A list of HostPorts: JSON objects, or the environment's text with commas; `none` is the empty list. */
export const hostPorts: Read<readonly HostPort[]> = (value) => {
  const entries = Array.isArray(value) ? value.map(hostPortOfJson) : hostPortTexts(String(value)).map(hostPortOfText);
  return entries.every((e) => e !== undefined) ? entries : undefined;
};

const hostPortTexts = (text: string): string[] => (text.toLowerCase() === "none" ? [] : text.split(","));

function hostPortOfText(text: string): HostPort | undefined {
  const parts = /^(?:(\w+):)?(?:\[?([0-9a-fA-F.:]+(?:\/\d+)?)\]?:)?(\d+)$/.exec(text.trim());
  return parts ? hostPortOfJson({ protocol: parts[1] ?? "tcp", net: parts[2], port: Number(parts[3]) }) : undefined;
}

function hostPortOfJson(value: unknown): HostPort | undefined {
  const { protocol = "tcp", port, net } = value as { protocol?: unknown; port?: unknown; net?: unknown };
  const name = String(protocol).toLowerCase();
  if (!["tcp", "udp", "sctp"].includes(name)) return undefined;
  if (typeof port !== "number" || !Number.isInteger(port) || port < 0 || port > 65535) return undefined;
  if (net === undefined || net === "") return { protocol: name, port };
  return typeof net === "string" && tryParseCidrOrIp(net) ? { protocol: name, port, net } : undefined;
}
