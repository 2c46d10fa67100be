import {
  anyText,
  flag,
  interfacePrefixes,
  milliseconds,
  type Read,
  resolveSettings,
  type Row,
  type SettingProblem,
  type SettingSources,
} from "../settings.ts";

/** Felix's parameters of what this node tells of itself. */
export interface StatusSettings {
  /** Between two reports that the agent lives; 0 = none. */
  intervalMs: number;
  /** How long the last one stays when the agent is gone; 0 = for ever. */
  ttlMs: number;
  /** The states of endpoints are told in the datastore. */
  endpoints: boolean;
  /** Least time between two writes of them. */
  delayMs: number;
  /** Folder of `endpoint-status`, where the states of workloads are files; empty = no files. */
  filesPrefix: string;
  /** What names of workloads' interfaces begin with: no host endpoint stands for one. */
  interfacePrefixes: readonly string[];
  /** Region of OpenStack, part of the keys; empty = none. */
  region: string;
}

/** An absolute path; empty = none. */
const path: Read<string> = (value) => {
  const text = anyText(value);
  return text === "" || text?.startsWith("/") ? text : undefined;
};

/** A DNS label: with its prefix it is a label of the keys. */
const region: Read<string> = (value) => {
  const text = anyText(value);
  return text === "" || (text !== undefined && /^[a-z0-9]([a-z0-9-]{0,44}[a-z0-9])?$/.test(text)) ? text : undefined;
};

const rows: { [K in keyof StatusSettings]: Row<StatusSettings[K]> } = {
  intervalMs: ["reportingInterval", milliseconds, 30_000],
  ttlMs: ["reportingTTL", milliseconds, 90_000],
  endpoints: ["endpointReportingEnabled", flag, false],
  delayMs: ["endpointReportingDelay", milliseconds, 1_000],
  filesPrefix: ["endpointStatusPathPrefix", path, "/var/run/calico"],
  interfacePrefixes: ["interfacePrefix", interfacePrefixes, ["cali"]],
  region: ["openstackRegion", region, ""],
};

/** Resolves the parameters. */
export const statusSettings = (
  sources: SettingSources,
): { settings: StatusSettings; problems: SettingProblem[] } => resolveSettings(rows, sources);
