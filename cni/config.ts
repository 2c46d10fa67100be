import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { codes, Refusal } from "./refusal.ts";

/** One member of the network configuration: what it must be, and what it becomes. */
interface Member<T> {
  wanted: string;
  read(value: Json, path: string, notes: Notes): T;
  /** When the member is absent or null. */
  otherwise: T;
  /** Known, but without effect here; the reason is told once. */
  idle?: string;
}

/** What an operator should hear about a configuration. */
interface Notes {
  /** Paths that nobody knows. */
  unknown: string[];
  /** Paths that have no effect, with the reason. */
  idle: [path: string, why: string][];
}

type Table = Record<string, Member<unknown>>;
type Values<T extends Table> = { [K in keyof T]: T[K] extends Member<infer V> ? V : never };

const member = <T>(wanted: string, otherwise: T, read: (value: Json) => T | undefined): Member<T> => ({
  wanted,
  otherwise,
  read(value, path) {
    const good = read(value);
    if (good === undefined) throw invalid(`${path}: wanted ${wanted}, got ${JSON.stringify(value)}`, path);
    return good;
  },
});

const text = (otherwise = "") => member("a string", otherwise, (v) => (typeof v === "string" ? v : undefined));
const integer = (otherwise = 0) =>
  member("an integer", otherwise, (v) => (Number.isInteger(v) ? v as number : undefined));
const flag = () => member("true or false", false, (v) => (typeof v === "boolean" ? v : undefined));
const texts = () =>
  member<string[]>(
    "a list of strings",
    [],
    (v) => Array.isArray(v) && v.every((item) => typeof item === "string") ? v as string[] : undefined,
  );
const anything = () => member<Json | undefined>("anything", undefined, (v) => v);
const idle = (why: string): Member<Json | undefined> => ({ ...anything(), idle: why });

function object<T extends Table>(table: T, otherUnknown = false): Member<Values<T>> {
  const read = (value: Json, path: string, notes: Notes): Values<T> => {
    if (!isObject(value)) throw invalid(`${path}: wanted an object, got ${JSON.stringify(value)}`, path);
    return readTable(table, value, path, notes, otherUnknown);
  };
  const nothing: Notes = { unknown: [], idle: [] };
  return { wanted: "an object", otherwise: readTable(table, {}, "", nothing, true), read };
}

/** Go matches member names without regard to case, exact ones first; the last of several wins. */
function readTable<T extends Table>(table: T, value: Record<string, Json>, path: string, notes: Notes, open: boolean) {
  const names = new Map(Object.keys(table).map((name) => [name.toLowerCase(), name]));
  const found = new Map<string, Json>();
  const entries = Object.entries(value).sort(([a], [b]) => Number(a in table) - Number(b in table));
  for (const [given, v] of entries) {
    const name = names.get(given.toLowerCase());
    if (name !== undefined) found.set(name, v);
    else if (!open) notes.unknown.push(path === "" ? given : `${path}.${given}`);
  }
  const read = Object.entries(table).map(([name, member]) => {
    const given = found.get(name) ?? null;
    const where = path === "" ? name : `${path}.${name}`;
    if (given === null) return [name, member.otherwise];
    if (member.idle) notes.idle.push([where, member.idle]);
    return [name, member.read(given, where, notes)];
  });
  return Object.fromEntries(read) as Values<T>;
}

const ours = "tortie's agent logs for all calls; see its own log level";
const agents = "the agent's own datastore is used";
const windows = "Windows only";
const kdd = "only with Kubernetes as the datastore";

/**
 * Members of Calico's network configuration. Source: Calico cni-plugin/pkg/types/types.go, and the CNI specification 1.1.0
 * ("Network configuration format") for what every plugin gets.
 */
const members = {
  cniVersion: text(),
  name: text(),
  type: text(),
  ipam: object({
    type: text(),
    name: text(),
    subnet: text(),
    assign_ipv4: text("true"),
    assign_ipv6: text("false"),
    ipv4_pools: texts(),
    ipv6_pools: texts(),
  }, true),
  mtu: integer(),
  require_mtu_file: flag(),
  num_queues: integer(1),
  device_type: text(),
  nodename: text(),
  nodename_file: text(),
  nodename_file_optional: flag(),
  hostname: text(),
  datastore_type: text(),
  etcd_endpoints: text(),
  etcd_discovery_srv: idle(agents),
  etcd_key_file: idle(agents),
  etcd_cert_file: idle(agents),
  etcd_ca_cert_file: idle(agents),
  etcd_authority: idle("Calico reads it no more either"),
  etcd_scheme: idle("Calico reads it no more either"),
  log_level: idle(ours),
  log_file_path: idle(ours),
  log_file_max_size: idle(ours),
  log_file_max_age: idle(ours),
  log_file_max_count: idle(ours),
  ipam_lock_file: idle("transactions keep calls apart, not a lock"),
  policy: object({
    type: text(),
    k8s_api_root: text(),
    k8s_auth_token: text(),
    k8s_client_certificate: text(),
    k8s_client_key: text(),
    k8s_certificate_authority: text(),
  }),
  kubernetes: object({ kubeconfig: text(), k8s_api_root: text(), node_name: text() }),
  container_settings: object({ allow_ip_forwarding: flag() }),
  include_default_routes: flag(),
  feature_control: object({ ip_addrs_no_ipam: flag(), floating_ips: flag() }),
  readiness_gates: texts(),
  policy_setup_timeout_seconds: integer(),
  endpoint_status_dir: idle("ADD waits for the kernel itself, not for a file"),
  args: object({
    "org.apache.mesos": object({
      network_info: object({ name: text(), labels: object({ labels: anything() }, true) }, true),
    }, true),
  }, true),
  dataplane_options: idle("no external dataplane plugin"),
  qps: idle(kdd),
  burst: idle(kdd),
  calico_api_group: idle(kdd),
  mode: idle(windows),
  vxlan_mac_prefix: idle(windows),
  vxlan_vni: idle(windows),
  windows_pod_deletion_timestamp_timeout: idle(windows),
  windows_use_single_network: idle(windows),
  windows_disable_default_deny_all_policy: idle(windows),
  windows_loopback_DSR: idle(windows),
  capabilities: anything(),
  runtimeConfig: anything(),
  dns: anything(),
  prevResult: anything(),
  disableCheck: anything(),
  disableGC: anything(),
  loadOnlyInlinedPlugins: anything(),
  ipMasq: idle("IP pools say what is masqueraded (natOutgoing)"),
  "cni.dev/valid-attachments": anything(),
  "cni.dev/attachments": anything(),
};

/** A network configuration, as far as it concerns us. Names are Calico's; absent members have their defaults. */
export type NetworkConfig = Values<typeof members> & {
  /** The text as it came on stdin, for delegated plugins. */
  raw: Record<string, Json>;
};

/** A configuration and what there is to say about it. */
export interface ReadConfig {
  config: NetworkConfig;
  /** Paths that nobody knows. */
  unknown: string[];
  /** Paths that have no effect here, and why. */
  idle: [path: string, why: string][];
}

/**
 * Reads a network configuration from stdin.
 * @throws Refusal 6 when it is not JSON, 7 when a member is wrong, missing or of the wrong type.
 */
export function readConfig(stdin: string): ReadConfig {
  const raw = parse(stdin);
  const notes: Notes = { unknown: [], idle: [] };
  const values = readTable(members, raw, "", notes, false);
  if (values.name === "") throw invalid("missing network name", "name");
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(values.name)) {
    throw new Refusal(
      codes.invalidConfig,
      { code: "bad-input", what: "invalid characters found in network name", where: "name" },
      values.name,
    );
  }
  return { config: { ...values, raw }, ...notes };
}

/** The configuration's version, or 0.2.0 when there is none or the text is not JSON; for error objects. */
export function versionIn(stdin: string): string {
  try {
    const value = parseJson(stdin);
    const version = isObject(value) ? value.cniVersion : undefined;
    return typeof version === "string" && version !== "" ? version : "0.2.0";
  } catch (error) {
    if (error instanceof SyntaxError) return "0.2.0";
    throw error;
  }
}

function parse(stdin: string): Record<string, Json> {
  const bad = (why: string) =>
    new Refusal(codes.decodingFailure, {
      code: "bad-input",
      what: `error unmarshall network config: ${why}`,
      where: "stdin",
      todo: "Give the network configuration as one JSON object",
    });
  try {
    const value = parseJson(stdin);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw bad(
      stdin.trim() === "" || error.message.includes("end of JSON") ? "unexpected end of JSON input" : error.message,
    );
  }
  throw bad("not a JSON object");
}

const invalid = (what: string, where: string) =>
  new Refusal(codes.invalidConfig, {
    code: "bad-input",
    what,
    where: `network configuration, ${where}`,
    todo: "Correct the CNI network configuration",
  });

/** Refuses a member's value. @returns a Refusal 7 to throw. */
export const invalidConfig = invalid;
