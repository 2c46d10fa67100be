import { readIfThere } from "../lib/durable_file.ts";
import { isObject, parseJson } from "../lib/json64.ts";
import { passwordRef } from "./inputs.ts";
import type { Findings, KubernetesView, PeeringEndpoint, Resources, Surroundings } from "./resources.ts";

/** Where the surroundings are read from. */
export interface SurroundingsSources {
  node: string;
  env: (name: string) => string | undefined;
  /** Folder of BGP passwords for hosts without Kubernetes: `<secret name>/<key>`. */
  secrets: string;
  /** Folder that holds `endpoint-status`. */
  endpointStatus: string;
  /** The newest view of the Kubernetes API; undefined without one. */
  kubernetes?: KubernetesView;
}

const variables = [
  "CALICO_ROUTER_ID",
  "CALICO_ADVERTISE_CLUSTER_IPS",
  "CALICO_K8S_NODE_REF",
  "FELIX_PROGRAMCLUSTERROUTES",
];

/**
 * Reads what routing needs besides etcd: environment, passwords that some object refers to, and local workload peers when
 * some BGPPeer asks for them; nothing else is touched.
 */
export async function readSurroundings(
  sources: SurroundingsSources,
  resources: Resources,
  findings: Findings,
): Promise<Surroundings> {
  const wantsEndpoints = resources.bgpPeers.values().some((p) => p.spec.localWorkloadSelector);
  return {
    node: sources.node,
    env: Object.fromEntries(variables.map((name) => [name, sources.env(name)])),
    passwords: await readPasswords(sources, resources, findings),
    peeringEndpoints: wantsEndpoints ? await readPeeringEndpoints(`${sources.endpointStatus}/endpoint-status`) : [],
    kubernetes: sources.kubernetes,
  };
}

/** Passwords by reference: a Kubernetes Secret wins over a file. */
async function readPasswords(
  { secrets, kubernetes }: SurroundingsSources,
  resources: Resources,
  findings: Findings,
): Promise<Map<string, string>> {
  const refs = new Set([
    ...resources.bgpPeers.values().map((p) => passwordRef(p.spec.password)),
    passwordRef(resources.bgpConfigurations.get("default")?.spec.nodeMeshPassword),
  ]);
  const found = new Map<string, string>();
  for (const ref of refs) {
    if (ref === undefined) continue;
    const [name, key] = ref.split("/") as [string, string];
    const data = kubernetes?.secrets.find((s) => s.metadata.name === name)?.data?.[key];
    const password = data === undefined ? await readPasswordFile(secrets, ref, findings) : fromBase64(data);
    if (password !== undefined) found.set(ref, password);
  }
  return found;
}

/** The file `<folder>/<name>/<key>` without its last line break; undefined when there is none or it may not be trusted. */
async function readPasswordFile(folder: string, ref: string, findings: Findings): Promise<string | undefined> {
  // Names of secrets and keys of Kubernetes; anything else could lead out of the folder.
  if (!ref.split("/").every((part) => /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(part))) return undefined;
  const path = `${folder}/${ref}`;
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const { mode } = await Deno.stat(path);
  if (((mode ?? 0) & 0o077) !== 0) {
    findings.add("holds a password and can be read by others", path, `chmod 0600 ${path}`);
  }
  return text.replace(/\r?\n$/, "");
}

function fromBase64(data: string): string | undefined {
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
  } catch (error) {
    if (error instanceof DOMException) return undefined;
    throw error;
  }
}

/** Endpoints of the agent's status files that name a BGPPeer. A file that is half written is read the next time. */
async function readPeeringEndpoints(folder: string): Promise<PeeringEndpoint[]> {
  const out: PeeringEndpoint[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) {
      const endpoint = entry.isFile ? peeringEndpoint(await readIfThere(`${folder}/${entry.name}`) ?? "") : undefined;
      if (endpoint) out.push(endpoint);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return out;
}

/** What a status file of an endpoint says about peering; undefined when nothing, or when it is not JSON. */
export function peeringEndpoint(text: string): PeeringEndpoint | undefined {
  try {
    const json = parseJson(text);
    if (!isObject(json) || typeof json.bgpPeerName !== "string" || json.bgpPeerName === "") return undefined;
    const nets = (value: unknown) => (Array.isArray(value) ? value.filter((n) => typeof n === "string") : []);
    return { bgpPeerName: json.bgpPeerName, ipv4Nets: nets(json.ipv4Nets), ipv6Nets: nets(json.ipv6Nets) };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
