import { Problem } from "../lib/problem.ts";
import { isFelixParameter } from "./felix_parameters.ts";
import { idleReason } from "./idle_parameters.ts";

/** Where the settings file lies unless TORTIE_CONFIG_FILE says otherwise. */
export const settingsFile = "/etc/tortie/tortie.yaml";
/** Felix's own file, with its parameters; FELIX_CONFIG_FILE names another. */
export const felixFile = "/etc/calico/felix.cfg";

/** A setting by its environment variable, which is also its name in the file. */
export interface Setting {
  name: string;
  /** What it does, in a few words; for the help. */
  what: string;
  /** Values that are understood (any case); undefined = it has its own rules. */
  values?: string[];
  /** Why it does nothing here, though Calico has it. */
  idle?: string;
}

const yesNo = ["true", "false", "1", "0", "yes", "no", "y", "n", "t", "f"];
const encapsulation = ["", "off", "never", "always", "crosssubnet", "cross-subnet"];
const container = "it is about Calico's container, which this program does not have";

/** Every setting but Felix's own parameters. Source: Calico's node environment variables. */
export const knownSettings: Setting[] = [
  { name: "NODENAME", what: "this node's name" },
  { name: "HOSTNAME", what: "this node's name when NODENAME and the nodename file are empty" },
  { name: "CALICO_NODENAME_FILE", what: "where the node's name is kept" },
  { name: "IP", what: "IPv4 address: autodetect, none, or an address" },
  { name: "IP6", what: "IPv6 address: autodetect, none, or an address" },
  { name: "IP_AUTODETECTION_METHOD", what: "how the IPv4 address is found" },
  { name: "IP6_AUTODETECTION_METHOD", what: "how the IPv6 address is found" },
  { name: "DISABLE_NODE_IP_CHECK", what: "do not look for other nodes with our address", values: ["true", "false"] },
  { name: "AUTODETECT_POLL_INTERVAL", what: "period of detection", idle: "changes of addresses are seen at once" },
  { name: "AS", what: "AS number of this node" },
  { name: "CALICO_NETWORKING_BACKEND", what: "who distributes routes", values: ["bird", "vxlan", "none"] },
  { name: "CALICO_NETWORKING", what: "false = backend none", values: ["true", "false"] },
  { name: "CLUSTER_TYPE", what: "words added to the ClusterInformation" },
  { name: "CALICO_K8S_NODE_REF", what: "name of the Kubernetes node" },
  { name: "WAIT_FOR_DATASTORE", what: "wait for the datastore at start", values: ["true", "false"] },
  { name: "CALICO_STARTUP_LOGLEVEL", what: "log level until the configuration is read" },
  { name: "NO_DEFAULT_POOLS", what: "make no pools", values: ["true", "false"] },
  { name: "CALICO_IPV4POOL_CIDR", what: "first IPv4 pool, or none" },
  { name: "CALICO_IPV6POOL_CIDR", what: "first IPv6 pool, or none" },
  { name: "CALICO_IPV4POOL_IPIP", what: "IPIP in the first pool", values: encapsulation },
  { name: "CALICO_IPV4POOL_VXLAN", what: "VXLAN in the first IPv4 pool", values: encapsulation },
  { name: "CALICO_IPV6POOL_VXLAN", what: "VXLAN in the first IPv6 pool", values: encapsulation },
  { name: "CALICO_IPV4POOL_BLOCK_SIZE", what: "prefix length of its blocks, 20-32" },
  { name: "CALICO_IPV6POOL_BLOCK_SIZE", what: "prefix length of its blocks, 116-128" },
  { name: "CALICO_IPV4POOL_NODE_SELECTOR", what: "nodes that use the first IPv4 pool" },
  { name: "CALICO_IPV6POOL_NODE_SELECTOR", what: "nodes that use the first IPv6 pool" },
  { name: "CALICO_IPV4POOL_NAT_OUTGOING", what: "masquerade what leaves the pools", values: yesNo },
  { name: "CALICO_IPV6POOL_NAT_OUTGOING", what: "masquerade what leaves the pools", values: yesNo },
  { name: "CALICO_IPV4POOL_DISABLE_BGP_EXPORT", what: "do not export the pool by BGP", values: yesNo },
  { name: "CALICO_IPV6POOL_DISABLE_BGP_EXPORT", what: "do not export the pool by BGP", values: yesNo },
  { name: "CALICO_ROUTER_ID", what: "BGP router id: an address, or hash" },
  { name: "CALICO_ADVERTISE_CLUSTER_IPS", what: "CIDRs of services to advertise" },
  { name: "BGP_LOGSEVERITYSCREEN", what: "log level of BIRD" },
  { name: "CALICO_MANAGE_CNI", what: "keep a Kubernetes token for the CNI plugin", idle: container },
  { name: "CALICO_CNI_SERVICE_ACCOUNT", what: "whose token that is", idle: container },
  { name: "CALICO_DISABLE_FELIX", what: "run without the agent", idle: "use `tortie routing`" },
  { name: "CALICO_DISABLE_FILE_LOGGING", what: "no log files", idle: "logs go to standard error only" },
  { name: "CALICO_SHUTDOWN_TIMESTAMP_FILE", what: "where the time of the last stop is kept", idle: container },
  { name: "CALICO_API_GROUP", what: "API group of the Kubernetes datastore", idle: "the datastore is etcd" },
  { name: "CALICO_DATASTORE_TYPE", what: "kind of datastore", values: ["etcdv3"] },
  { name: "DATASTORE_TYPE", what: "kind of datastore", values: ["etcdv3"] },
  ...[
    "ENDPOINTS",
    "DISCOVERY_SRV",
    "USERNAME",
    "PASSWORD",
    "KEY_FILE",
    "CERT_FILE",
    "CA_CERT_FILE",
    "KEY",
    "CERT",
    "CA_CERT",
  ]
    .flatMap((name) => ["ETCD_", "CALICO_ETCD_"].map((prefix) => ({ name: prefix + name, what: "access to etcd" }))),
  { name: "KUBECONFIG", what: "access to the Kubernetes API" },
  { name: "KUBERNETES_SERVICE_HOST", what: "address of the Kubernetes API" },
  { name: "KUBERNETES_SERVICE_PORT", what: "port of the Kubernetes API" },
  { name: "LOG_LEVEL", what: "log level", values: ["debug", "info", "warn", "warning", "error"] },
  { name: "TORTIE_BIRD_STARTED_BY", what: "who starts BIRD", values: ["us", "systemd"] },
  { name: "TORTIE_CUT_DENIED_FLOWS", what: "end tracked flows that policy denies", values: yesNo },
  { name: "TORTIE_WIREGUARD_KEY_ROUND", what: "any word; another one makes new WireGuard keys" },
  { name: "FELIX_CONFIG_FILE", what: "where Felix's file lies, default /etc/calico/felix.cfg" },
  { name: "TORTIE_DATASTORE", what: "etcd, or the store of this host alone", values: ["etcd", "embedded"] },
  { name: "TORTIE_STORE_STARTED_BY", what: "who starts the store of this host", values: ["us", "systemd"] },
  { name: "TORTIE_API_SOCKET", what: "the API's socket, default /run/tortie/api.sock" },
  { name: "TORTIE_API_LISTEN", what: "ADDRESS:PORT for the API, beside its socket" },
  { name: "TORTIE_API_TOKEN_FILE", what: "the API's token, default /var/lib/tortie/api-token" },
  { name: "TORTIE_API_CERT_FILE", what: "certificate of the API's port" },
  { name: "TORTIE_API_KEY_FILE", what: "its key" },
  { name: "TORTIE_POLICIES_DIR", what: "folder of objects to bring in, default /etc/tortie/policies.d" },
  { name: "TORTIE_CONFIG_FILE", what: "where the settings file lies" },
  { name: "TORTIE_STATE_DIR", what: "folder of state that lasts, default /var/lib/tortie" },
  { name: "TORTIE_RUN_DIR", what: "folder of sockets, default /run/tortie" },
];

/** Variables that begin so are meant for us: one that we do not know is told. */
const ownPrefixes = /^(CALICO_|FELIX_|ETCD_|TORTIE_(?!TEST_)|IP_|IP6_|AUTODETECT_)/;
/** Set by Kubernetes for its services in every container. */
const serviceVariable = /_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$/;

/** A setting that is not understood or does nothing. */
export interface SettingReport {
  name: string;
  /** "environment" or the path of the file. */
  where: string;
  why: string;
}

/** All settings, from wherever they come. */
export interface Settings {
  /** The value; undefined when it is not set or empty. */
  get(name: string): string | undefined;
  /** Names that have a value. */
  names(): string[];
  /** What the operator must be told. */
  reports: SettingReport[];
}

/** What settings are read from. */
export interface SettingSources {
  env: Record<string, string>;
  file?: { path: string; values: Record<string, string> };
  /** Felix's file: its parameters, weaker than both. */
  felix?: { path: string; values: Record<string, string> };
  /** True for the name of a Felix parameter after `FELIX_`; default: every name is one. */
  isFelixParameter?(name: string): boolean;
}

/**
 * Joins environment and files; the environment wins, an empty variable counts as not set. Felix's parameters are found
 * in any case, as `FELIX_<PARAMETER>`. Pure.
 */
export function readSettings(sources: SettingSources): Settings {
  const known = new Map(knownSettings.map((s) => [s.name, s]));
  const reports: SettingReport[] = [];
  const values = new Map<string, string>();
  const take = (where: string, name: string, value: string, foreign: boolean) => {
    const why = objection(known.get(name), name, value, foreign, sources.isFelixParameter);
    if (why) reports.push({ name, where, why });
    const called = /^felix_/i.test(name) ? name.toUpperCase() : name;
    if (value !== "" && !values.has(called)) values.set(called, value);
  };
  for (const [name, value] of Object.entries(sources.env)) take("environment", name, value, true);
  for (const [name, value] of Object.entries(sources.file?.values ?? {})) {
    take(sources.file!.path, name, value, false);
  }
  for (const [name, value] of Object.entries(sources.felix?.values ?? {})) {
    take(sources.felix!.path, `FELIX_${name}`, value, false);
  }
  return { get: (name) => values.get(name), names: () => [...values.keys()], reports };
}

/** @param foreign the source holds settings of other programs too, so that only our prefixes are looked at. */
function objection(
  setting: Setting | undefined,
  name: string,
  value: string,
  foreign: boolean,
  isFelixParameter: (name: string) => boolean = () => true,
): string | undefined {
  if (!setting) {
    if (/^FELIX_/i.test(name)) {
      if (!isFelixParameter(name.slice(6))) return "Felix has no such parameter";
      const why = idleReason(name.slice(6), value);
      return why && `it does nothing here: ${why}`;
    }
    if (foreign && (!ownPrefixes.test(name) || serviceVariable.test(name))) return undefined;
    return "there is no such setting";
  }
  if (setting.idle) return `it does nothing here: ${setting.idle}`;
  if (value !== "" && setting.values && !setting.values.includes(value.toLowerCase())) {
    return `"${value}" is not understood; it can be ${setting.values.filter((v) => v !== "").join(", ")}`;
  }
  return undefined;
}

/**
 * Reads the settings file: one YAML mapping of names to values. All values are texts as they stand (`1.10` stays
 * `1.10`); a list is joined with commas.
 * @throws Problem "bad-input" with the line.
 */
export async function parseSettings(path: string, text: string): Promise<Record<string, string>> {
  const { parseDocument } = await import("../lib/yaml.ts");
  const document = parseDocument(text, { schema: "failsafe", prettyErrors: true });
  const error = document.errors[0];
  if (error) throw notUnderstood(`${path}:${error.linePos?.[0].line ?? 1}`, error.message.split("\n")[0]!);
  const content: unknown = document.toJS() ?? {};
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    throw notUnderstood(path, "the file is not a mapping of names to values");
  }
  return Object.fromEntries(
    Object.entries(content).map(([name, value]) => [name, textOf(value, `${path}: ${name}`)]),
  );
}

function textOf(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  if (value === null) return "";
  if (Array.isArray(value) && value.every((v) => typeof v === "string")) return value.join(",");
  throw notUnderstood(where, "the value is neither a text nor a list of texts");
}

const notUnderstood = (where: string, why: string): Problem =>
  new Problem({
    code: "bad-input",
    what: `settings file is not understood: ${why}`,
    where,
    todo: "Write one `NAME: value` a line, with the names of the environment variables",
  });

/**
 * Reads Felix's file: `Parameter = value` lines, sections without meaning, `#` and `;` begin comments; a later line wins.
 * Source: Calico's felix/config/file_loader.go.
 * @throws Problem "bad-input" with the line.
 */
export function parseFelixFile(path: string, text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [i, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim();
    if (line === "" || /^[#;]/.test(line) || /^\[.*\]$/.test(line)) continue;
    const parts = /^([^=:]+?)\s*[=:]\s*(.*)$/.exec(line);
    if (!parts) throw notUnderstood(`${path}:${i + 1}`, `"${line}" is no \`name = value\``);
    const plain = parts[2]!.replace(/\s+[#;].*$/, "");
    values[parts[1]!] = /^(["'`])(.*)\1$/.exec(plain)?.[2] ?? plain;
  }
  return values;
}

/** Reads this process's environment and the settings files, which may be missing. @throws Problem "bad-input". */
export async function loadSettings(): Promise<Settings> {
  const env = Deno.env.toObject();
  const path = env.TORTIE_CONFIG_FILE || settingsFile, felixPath = env.FELIX_CONFIG_FILE || felixFile;
  const text = await readText(path), felix = await readText(felixPath);
  return readSettings({
    env,
    ...(text !== undefined && { file: { path, values: await parseSettings(path, text) } }),
    ...(felix !== undefined && { felix: { path: felixPath, values: parseFelixFile(felixPath, felix) } }),
    isFelixParameter,
  });
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw new Problem({ code: "bad-input", what: "settings file cannot be read", where: path, cause });
  }
}
