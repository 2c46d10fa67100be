import { X509Certificate } from "node:crypto";
import type { Clock } from "../../../lib/clock.ts";
import { isObject, type Json, parseJson } from "../../../lib/json64.ts";
import { messageOf } from "../../../lib/problem.ts";
import type { StoreOptions } from "../../../datastore/options.ts";
import type { CniFacts, CredentialFact } from "../facts.ts";

/** Where runtimes and we look unless told otherwise. */
const confDir = "/etc/cni/net.d", binDir = "/opt/cni/bin";
/** Files of runtimes, and the word before the folder of network configurations. */
const runtimeFiles: [file: string, word: RegExp][] = [
  ["/etc/containerd/config.toml", /^\s*conf_dir\s*=\s*"([^"]+)"/m],
  ["/etc/crio/crio.conf", /^\s*network_dir\s*=\s*"([^"]+)"/m],
];

/** What was found of CNI, and the files of credentials that our configuration names. */
export interface FoundCni {
  facts: CniFacts;
  credentialFiles: { file: string; usedFor: string }[];
}

/** What the runtime finds; undefined when no plugin of ours was ever installed here. */
export async function lookAtCni(): Promise<FoundCni | undefined> {
  const files: CniFacts["files"][number][] = [];
  const plugins = new Map<string, string | undefined>();
  const credentialFiles: FoundCni["credentialFiles"] = [];
  for (const name of await namesIn(confDir)) {
    const config = await readConfig(`${confDir}/${name}`);
    if (typeof config === "string") {
      files.push({ name, plugins: [], broken: config });
      continue;
    }
    const chain = Array.isArray(config.plugins) ? config.plugins.filter(isObject) : [config];
    files.push({ name, plugins: chain.map((plugin) => String(plugin.type)) });
    if (!chain.some((plugin) => plugin.type === "calico")) continue;
    for (const plugin of chain.flatMap((p) => [p.type, isObject(p.ipam) ? p.ipam.type : undefined])) {
      if (typeof plugin === "string") plugins.set(plugin, realPath(`${binDir}/${plugin}`));
    }
    credentialFiles.push(...chain.flatMap(credentialsOf));
  }
  const own = realPath(`${binDir}/calico`);
  if (plugins.size === 0 && own === undefined) return undefined;
  return { facts: { confDir, binDir, files, plugins, runtimeDirs: runtimeDirs() }, credentialFiles };
}

/** Files that a runtime takes for network configurations, in its order. */
async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      if (/\.(conf|conflist|json)$/.test(entry.name)) names.push(entry.name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

async function readConfig(path: string): Promise<Record<string, Json> | string> {
  try {
    const config = parseJson(await Deno.readTextFile(path));
    return isObject(config) ? config : "it is no JSON object";
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof Deno.errors.NotFound) return messageOf(error);
    throw error;
  }
}

function credentialsOf(plugin: Record<string, Json>): { file: string; usedFor: string }[] {
  const { kubernetes } = plugin;
  const named: [Json | undefined, string][] = [
    [isObject(kubernetes) ? kubernetes.kubeconfig : undefined, "the Kubernetes API, by the plugin"],
    ...["etcd_ca_cert_file", "etcd_cert_file", "etcd_key_file"].map((
      name,
    ): [Json | undefined, string] => [plugin[name], "etcd, by the plugin"]),
  ];
  return named.flatMap(([file, usedFor]) => (typeof file === "string" && file !== "" ? [{ file, usedFor }] : []));
}

const runtimeDirs = (): CniFacts["runtimeDirs"] =>
  runtimeFiles.flatMap(([saidIn, word]) => {
    const dir = word.exec(readText(saidIn) ?? "")?.[1];
    return dir ? [{ dir, saidIn }] : [];
  });

/** Looks at files of credentials: that they can be read, and until when they are good. */
export function lookAtCredentials(
  options: StoreOptions | undefined,
  ofCni: readonly { file: string; usedFor: string }[],
  clock: Clock,
): CredentialFact[] {
  const ofEtcd = [options?.caFile, options?.certFile, options?.keyFile].filter((file) => file !== undefined)
    .map((file) => ({ file, usedFor: "etcd" }));
  return [...ofEtcd, ...ofCni].map((credential) => {
    const nowMs = clock.now();
    try {
      return { ...credential, nowMs, expiresMs: expiryOf(Deno.readTextFileSync(credential.file)) };
    } catch (error) {
      return { ...credential, nowMs, problem: messageOf(error) };
    }
  });
}

/** When a certificate, or the token or certificate in a kubeconfig, expires; unix ms. @throws for a certificate that is none. */
function expiryOf(text: string): number | undefined {
  if (text.includes("BEGIN CERTIFICATE")) return Date.parse(new X509Certificate(text).validTo);
  const token = /^\s*(?:- )?token:\s*"?([\w-]+\.[\w-]+\.[\w-]*)"?\s*$/m.exec(text)?.[1];
  if (token) {
    const claims = parseJson(
      new TextDecoder().decode(Uint8Array.fromBase64(token.split(".")[1]!, { alphabet: "base64url" })),
    );
    return isObject(claims) && typeof claims.exp === "number" ? claims.exp * 1000 : undefined;
  }
  const inner = /^\s*client-certificate-data:\s*"?([A-Za-z0-9+/=]+)"?\s*$/m.exec(text)?.[1];
  return inner ? Date.parse(new X509Certificate(atob(inner)).validTo) : undefined;
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function realPath(path: string): string | undefined {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
