import { durationMs } from "../datastore/duration.ts";
import { parameterNames } from "../datastore/kinds/felix_configuration.ts";
import { tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";

/** One FelixConfiguration that holds on this node. */
export interface Configuration {
  /** `default`, `node.<this node>`, or the name of one that selects this node. */
  name: string;
  /** Values as JSON, by the names of the fields; those of annotations are text. */
  spec: Readonly<Record<string, unknown>>;
}

/** Where a parameter may be said, strongest first. Values of specs are JSON, those of the environment are text. */
export interface SettingSources {
  /** FELIX_<PARAMETER> of this process, or of its files. */
  env: (name: string) => string | undefined;
  /** FelixConfigurations that hold here, strongest first. */
  configurations?: readonly Configuration[];
}

/** A value that is not understood; the next weaker source holds. */
export interface SettingProblem {
  /** `FelixConfiguration:default`, or `environment`. */
  object: string;
  /** `FELIX_REMOVEEXTERNALROUTES`, or `removeExternalRoutes` of a FelixConfiguration. */
  setting: string;
  value: unknown;
}

/** A value from JSON or text; undefined = not understood. */
export type Read<T> = (value: unknown) => T | undefined;

/** One parameter: its name in FelixConfiguration, how it is read, and Calico's default. */
export type Row<T> = [name: string, read: Read<T>, otherwise: T];

/**
 * Parameters that Calico does not have, with the variables that say them; in a FelixConfiguration an annotation does,
 * because Calico's clients drop fields that they do not know.
 */
export const ownParameters: Readonly<Record<string, string>> = {
  tortieCutDeniedFlows: "TORTIE_CUT_DENIED_FLOWS",
  tortieFlushGuard: "TORTIE_FLUSH_GUARD",
  tortieWireguardKeyRound: "TORTIE_WIREGUARD_KEY_ROUND",
  tortieWireguardMandatory: "TORTIE_WIREGUARD_MANDATORY",
};

/** Name of a field's parameter, as it stands in annotations, and after FELIX_ in variables (any case). */
export const parameterOf = (field: string): string => parameterNames[field] ?? field;

/**
 * Resolves each row: environment and files, then this node's FelixConfiguration, then one that selects this node, then
 * the cluster's, then the default. The word `none` means off, empty, 0, where that is possible.
 * DIFFERS: a value that is not understood leaves the next weaker one in force; with Felix the default, or it ends.
 */
export function resolveSettings<S extends object>(
  rows: { [K in keyof S]: Row<S[K]> },
  { env, configurations = [] }: SettingSources,
): { settings: S; problems: SettingProblem[] } {
  const problems: SettingProblem[] = [];
  const resolve = ([name, read, otherwise]: Row<unknown>): unknown => {
    const variable = ownParameters[name] ?? `FELIX_${parameterOf(name).toUpperCase()}`;
    const said = [
      { object: "environment", setting: variable, value: env(variable) as unknown },
      ...configurations.map(({ name: of, spec }) => ({
        ...{ object: `FelixConfiguration:${of}`, setting: name, value: spec[name] },
      })),
    ];
    for (const problem of said) {
      const { value } = problem;
      if (value === undefined || value === null || value === "") continue;
      if (isNone(value) && otherwise === undefined) return undefined;
      const result = read(isNone(value) ? zeroOf(otherwise, value) : value);
      if (result !== undefined) return result;
      problems.push(problem);
    }
    return otherwise;
  };
  const all = Object.entries(rows).map(([key, row]) => [key, resolve(row as Row<unknown>)]);
  return { settings: Object.fromEntries(all) as S, problems };
}

const isNone = (value: unknown): boolean => typeof value === "string" && value.toLowerCase() === "none";

/** What `none` stands for; a text's reader decides itself. */
function zeroOf(otherwise: unknown, none: unknown): unknown {
  if (typeof otherwise === "boolean") return false;
  return typeof otherwise === "number" ? 0 : none;
}

/** Problems as refusals: by object, what of it is not understood. */
export function problemsByObject(problems: readonly SettingProblem[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const { object, setting, value } of problems) {
    const why = `${setting}: ${JSON.stringify(value)} is not understood`;
    found.set(object, found.has(object) ? `${found.get(object)}; ${why}` : why);
  }
  return found;
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

/** A whole number; the environment may write it as Go does: `0x1f`, `0b101`, `017`. */
export const integer = (min: number, max: number): Read<number> => (value) => {
  const text = String(value);
  if (!/^-?(0x[0-9a-f]+|0b[01]+|0o?[0-7]*|[1-9]\d*)$/i.test(text)) return undefined;
  const n = Number(text.replace(/^(-?)0(?=[0-7])/, "$10o"));
  return Number.isSafeInteger(n) && n >= min && n <= max ? n : undefined;
};

/** The environment says seconds as a plain number, JSON a duration with units. */
export const milliseconds: Read<number> = (value) => {
  const ms = /^\d+(\.\d+)?$/.test(String(value)) ? Number(value) * 1000 : durationMs(String(value));
  return ms !== undefined && ms >= 0 ? ms : undefined;
};

/** One of some words, in any case, in its lower-case form. */
export const word = <W extends string>(...words: W[]): Read<W> => (value) =>
  words.find((w) => w === String(value).toLowerCase());

/** Any text; `none` is the empty one. */
export const anyText: Read<string> = (value) => {
  if (typeof value !== "string") return undefined;
  return isNone(value) ? "" : value;
};

/** Beginnings of interfaces' names, with commas. There must be some. */
export const interfacePrefixes: Read<readonly string[]> = (value) => {
  const names = String(value).split(",").map((name) => name.trim());
  return !isNone(value) && names.every((name) => /^[a-zA-Z0-9:._-]{1,15}$/.test(name)) ? names : undefined;
};

/** A regular expression, as text. */
export const pattern: Read<string> = (value) => {
  try {
    return new RegExp(String(value)).source;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
};

/** Patterns of interfaces' names: names, and regular expressions between slashes, with commas; `none` is the empty list. */
export const namePatterns: Read<readonly string[]> = (value) => {
  if (isNone(value)) return [];
  const found = String(value).split(",").map((entry) => {
    if (/^\/.+\/$/.test(entry)) return pattern(entry.slice(1, -1));
    return /^[a-zA-Z0-9:._-]{1,15}$/.test(entry) ? `^${entry.replaceAll(".", "\\.")}$` : undefined;
  });
  return found.every((p) => p !== undefined) ? found : undefined;
};

/** `name=value` pairs with commas. */
export const pairs: Read<ReadonlyMap<string, string>> = (value) => {
  const entries = String(value).split(",").filter((entry) => entry !== "").map((entry) => entry.trim().split("="));
  return entries.every((e) => e.length === 2 && e[0] !== "") ? new Map(entries as [string, string][]) : undefined;
};

/** An address of one version, as it is written. */
export const addressText = (v: 4 | 6): Read<string> => (value) =>
  tryParseIp(String(value))?.v === v ? String(value) : undefined;

/** `tcp:22`, `udp:[fd00::/8]:68`, `10.0.0.0/8` between the two; a bare number is TCP. */
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

const hostPortTexts = (text: string): string[] =>
  isNone(text) ? [] : text.split(",").filter((entry) => entry.trim() !== "");

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
