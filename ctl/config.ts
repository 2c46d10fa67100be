import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { type StoreOptions, storeOptions } from "../datastore/options.ts";
import type { Surroundings } from "./surroundings.ts";

/** Where the connection is described when no flag says it. */
export const defaultConfigFile = "/etc/calico/calicoctl.cfg";

/** Members of `spec` that say how to reach etcd. Those of a Kubernetes datastore are known and not used. */
const specMembers = [
  "datastoreType",
  "etcdEndpoints",
  "etcdDiscoverySrv",
  "etcdUsername",
  "etcdPassword",
  "etcdKeyFile",
  "etcdCertFile",
  "etcdCACertFile",
  "etcdKey",
  "etcdCert",
  "etcdCACert",
  "kubeconfig",
  "k8sAPIEndpoint",
  "k8sKeyFile",
  "k8sCertFile",
  "k8sCAFile",
  "k8sAPIToken",
  "k8sInsecureSkipTLSVerify",
  "k8sDisableNodePoll",
  "k8sUsePodCIDR",
  "k8sCurrentContext",
  "k8sClientQPS",
];

/**
 * How to reach the datastore: from the file when there is one, and then from nothing else; else from the environment.
 * @param context the `metadata.name` of one of several documents of the file; with one document it is ignored, as with
 * calicoctl, which uses it for Kubernetes alone.
 * @throws Problem "bad-input" or "unsupported"; `where` names the file or variable.
 */
export async function connectionOptions(
  file: string | undefined,
  surroundings: Surroundings,
  context?: string,
): Promise<StoreOptions> {
  const path = file ?? defaultConfigFile;
  const text = await surroundings.readFile(path);
  if (text === undefined) {
    if (file !== undefined && file !== defaultConfigFile) throw new MissingConfig(file);
    return storeOptions({ env: surroundings.env });
  }
  return storeOptions({ env: () => undefined, config: await readConfig(await documentOf(text, context), path) });
}

/**
 * The document that a context names, the first without one. DIFFERS: calicoctl reads one document.
 * @throws Problem "bad-input" for a name that no document has.
 */
async function documentOf(text: string, context: string | undefined): Promise<string> {
  const documents = text.split(/^---.*$/m).filter((part) => /^\s*[^\s#]/m.test(part));
  if (context === undefined || documents.length < 2) return documents[0] ?? text;
  const names: string[] = [];
  for (const one of documents) {
    const value = await parseYaml(one);
    const name = isObject(value) && isObject(value.metadata) ? value.metadata.name : undefined;
    if (name === context) return one;
    if (typeof name === "string") names.push(name);
  }
  throw new Problem({ code: "bad-input", what: `no context ${context}, there are: ${names.join(", ") || "none"}` });
}

/** A config file that was named does not exist. */
export class MissingConfig extends Error {
  constructor(readonly file: string) {
    super(`Error reading config file: ${file}`);
  }
}

async function readConfig(text: string, path: string): Promise<Record<string, string>> {
  const broken = (why: string) =>
    new Problem({ code: "bad-input", what: `syntax error in ${path}: failed to parse config as YAML/JSON: ${why}` });
  let value: Json;
  try {
    value = text.trimStart().startsWith("{") ? parseJson(text) : await parseYaml(text);
  } catch (error) {
    throw broken(messageOf(error).split("\n")[0]!);
  }
  if (!isObject(value) || value.kind !== "CalicoAPIConfig") throw broken("kind must be CalicoAPIConfig");
  if (value.apiVersion !== "projectcalico.org/v3") throw broken("apiVersion must be projectcalico.org/v3");
  const spec = isObject(value.spec) ? value.spec : {};
  const strange = Object.keys(spec).find((member) => !specMembers.includes(member)) ??
    Object.keys(value).find((member) => !["kind", "apiVersion", "metadata", "spec"].includes(member));
  if (strange) throw broken(`unknown field "${strange}"`);
  return Object.fromEntries(Object.entries(spec).map(([member, v]) => [member, String(v ?? "")]));
}

/** The yaml package is large; only who needs it pays. */
async function parseYaml(text: string): Promise<Json> {
  const { parse } = await import("../lib/yaml.ts");
  return parse(text) as Json;
}
