import { Problem } from "../lib/problem.ts";

/**
 * Where options come from. `config` holds the fields of a CNI network config (`etcd_endpoints`), of calicoctl's file
 * (`etcdEndpoints`) or of our own (`ETCD_ENDPOINTS`); a field that is there wins over the environment.
 */
export interface StoreOptionSources {
  env(name: string): string | undefined;
  config?: Record<string, string>;
}

/** How to reach the datastore. A PEM file is read again at each connect; `…Pem` is its text given inline instead. */
export interface StoreOptions {
  /** `http://host:port`, `https://host:port` or `unix:///path` (tortie store), at least one, all with the same scheme. */
  endpoints: string[];
  username?: string;
  password?: string;
  caFile?: string;
  certFile?: string;
  keyFile?: string;
  caPem?: string;
  certPem?: string;
  keyPem?: string;
  /** Deadline of a call that names none. */
  deadlineMs: number;
}

/** A setting that was found: its text and what to call its place in a message. */
interface Found {
  text: string;
  where: string;
}

/** Deadline of a call to the datastore, in milliseconds, unless the call says another. */
export const defaultDeadlineMs = 5_000;

/**
 * Decides how to reach etcd: config before `CALICO_<NAME>` before `<NAME>`; empty means unset. Names are those of
 * Calico (libcalico-go/lib/apiconfig/apiconfig.go, cni-plugin/pkg/types/types.go). Reads no file.
 * @throws Problem "bad-input" or "unsupported", naming the variable or field.
 */
export function storeOptions(sources: StoreOptionSources): StoreOptions {
  const find = (name: string) => findSetting(sources, name);
  refuseOtherDatastores(find("DATASTORE_TYPE"));
  const tls = tlsOptions(find);
  const endpoints = endpointList(find, Object.keys(tls).length > 0);
  return { endpoints, ...userOptions(find), ...tls, deadlineMs: defaultDeadlineMs };
}

/** Finds a setting by its environment name. @returns undefined when it is unset or empty everywhere. */
function findSetting(sources: StoreOptionSources, name: string): Found | undefined {
  const snake = name.toLowerCase();
  const camel = camelNames[name] ?? snake.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase());
  for (const field of [name, snake, camel]) {
    const text = sources.config?.[field]?.trim();
    if (text) return { text, where: `config field ${field}` };
  }
  for (const variable of [`CALICO_${name}`, name]) {
    const text = sources.env(variable)?.trim();
    if (text) return { text, where: `environment variable ${variable}` };
  }
  return undefined;
}

/** Names of calicoctl's file that the rule "one capital a word" does not give. */
const camelNames: Record<string, string> = { ETCD_CA_CERT_FILE: "etcdCACertFile", ETCD_CA_CERT: "etcdCACert" };

type Find = (name: string) => Found | undefined;

function refuseOtherDatastores(type: Found | undefined): void {
  if (!type || type.text === "etcdv3") return;
  throw new Problem({
    code: "unsupported",
    what: `datastore type "${type.text}" is not supported`,
    where: type.where,
    todo: 'Set it to "etcdv3" and give ETCD_ENDPOINTS',
  });
}

function endpointList(find: Find, hasTlsFiles: boolean): string[] {
  const given = find("ETCD_ENDPOINTS");
  const discovery = find("ETCD_DISCOVERY_SRV");
  if (discovery) {
    // DIFFERS: Calico resolves _etcd-client[-ssl]._tcp once at start; a list does not depend on DNS at that moment.
    throw new Problem({
      code: "unsupported",
      what: given ? "endpoints and discovery by SRV are both set" : "discovery of etcd by SRV is not supported",
      where: discovery.where,
      todo: "List the endpoints in ETCD_ENDPOINTS",
    });
  }
  if (!given) {
    throw new Problem({
      code: "bad-input",
      what: "no etcd endpoints specified",
      todo: "Set ETCD_ENDPOINTS, for example to https://10.0.0.1:2379,https://10.0.0.2:2379",
    });
  }
  const parts = given.text.split(",").map((p) => p.trim()).filter((p) => p !== "");
  const endpoints = [...new Set(parts.map((p) => endpointOf(p, given.where, hasTlsFiles)))];
  if (endpoints.length === 0) throw badEndpoint(given.text, given.where, "no endpoint in it");
  if (new Set(endpoints.map((e) => e.split(":", 1)[0])).size > 1) {
    throw badEndpoint(given.text, given.where, "http, https and unix are mixed");
  }
  return endpoints;
}

/** Normal form of one endpoint. Without a scheme it means https when there are TLS files, as Calico's client does. */
function endpointOf(text: string, where: string, hasTlsFiles: boolean): string {
  if (/^unix:\/\/\/[^?#]+$/.test(text)) return text;
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  if (bare && !hasTlsFiles) throw badEndpoint(text, where, "it has no scheme");
  const parts = /^(https?):\/\/(\[[0-9a-f:.]+\]|[^\s/:?#@[\]]+):(\d{1,5})\/?$/i.exec(bare ? `https://${text}` : text);
  if (!parts) throw badEndpoint(text, where, "it is not scheme://host:port");
  const port = Number(parts[3]);
  if (port < 1 || port > 65535) throw badEndpoint(text, where, "its port is not 1-65535");
  return `${parts[1]!.toLowerCase()}://${parts[2]!.toLowerCase()}:${port}`;
}

function badEndpoint(text: string, where: string, why: string): Problem {
  return new Problem({
    code: "bad-input",
    what: `etcd endpoint "${text}" cannot be used: ${why}`,
    where,
    todo: "Write http://host:2379, https://host:2379 (several separated by commas) or unix:///run/tortie/store.sock",
  });
}

function userOptions(find: Find): Pick<StoreOptions, "username" | "password"> {
  const username = find("ETCD_USERNAME"), password = find("ETCD_PASSWORD");
  if (!username && !password) return {};
  if (!username || !password) {
    // DIFFERS: Calico drops the one that is set and connects without a user.
    throw new Problem({
      code: "bad-input",
      what: `${username ? "ETCD_USERNAME" : "ETCD_PASSWORD"} is set without ${
        username ? "ETCD_PASSWORD" : "ETCD_USERNAME"
      }`,
      where: (username ?? password)!.where,
      todo: "Set both or none",
    });
  }
  return { username: username.text, password: password.text };
}

function tlsOptions(find: Find): Partial<StoreOptions> {
  const settings = { ca: "ETCD_CA_CERT", cert: "ETCD_CERT", key: "ETCD_KEY" } as const;
  const files: Partial<StoreOptions> = {}, inline: Partial<StoreOptions> = {};
  let anyInline: Found | undefined;
  for (const [part, name] of Object.entries(settings)) {
    const file = find(`${name}_FILE`);
    if (file) Object.assign(files, { [`${part}File`]: file.text });
    const pem = find(name);
    if (pem) Object.assign(inline, { [`${part}Pem`]: pem.text });
    anyInline ??= pem;
  }
  if (anyInline && Object.keys(files).length > 0) {
    throw new Problem({
      code: "bad-input",
      what: "inline certificates and certificate files are mixed",
      where: anyInline.where,
      todo: "Give all as files or all inline",
    });
  }
  const all = { ...files, ...inline };
  const cert = all.certFile ?? all.certPem, key = all.keyFile ?? all.keyPem;
  if ((cert === undefined) !== (key === undefined)) {
    throw new Problem({
      code: "bad-input",
      what: cert === undefined ? "a client key is set without its certificate" : "a client certificate without its key",
      where: find(cert === undefined ? "ETCD_KEY_FILE" : "ETCD_CERT_FILE")?.where ?? anyInline?.where,
      todo: "Set ETCD_CERT_FILE and ETCD_KEY_FILE together",
    });
  }
  return all;
}
