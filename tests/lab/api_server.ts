import { runOk } from "../../lib/process.ts";
import { apiHandler } from "./api_handler.ts";
import { ApiObject, ApiObjects } from "./api_objects.ts";
import { Certificate, makeAuthority } from "./certificates.ts";
import { uniqueSuffix } from "./port.ts";
import { wait } from "./wait.ts";

/** A Kubernetes API of the lab, over HTTPS with a bearer token. */
export interface ApiServer extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  readonly caFile: string;
  /** A kubeconfig for it. */
  readonly kubeconfig: string;
  /** Creates or replaces an object; its plural is derived from `kind`. */
  put(object: ApiObject): Promise<void>;
  /** Deletes an object; nothing happens when it does not exist. */
  delete(resource: string, namespace: string | undefined, name: string): Promise<void>;
}

/** An ApiServer of this process: its objects and requests can be looked at. */
export interface LocalApiServer extends ApiServer {
  readonly objects: ApiObjects;
  /** "GET /api/v1/…", in order. */
  readonly requests: string[];
  /** From now on only this token is let in. */
  accept(token: string): void;
  /** Requests whose line matches get this answer, until it is called with nothing. */
  fail(lines?: RegExp, answer?: () => Response): void;
  /** Ends all connections and goes on at the same port with a certificate of another authority, which `caFile` then names. */
  renewCertificate(): Promise<void>;
}

/** Serves the API in this process on 127.0.0.1. `dir` gets certificates and the kubeconfig. */
export async function serveApi(dir: string): Promise<LocalApiServer> {
  const hosts = ["127.0.0.1", "localhost"], { caFile, server, token } = await credentials(dir, hosts);
  const objects = new ApiObjects(), requests: string[] = [];
  const onRequest = (line: string) => void requests.push(line);
  const options: Parameters<typeof apiHandler>[0] = { objects, token, onRequest };
  let stop = new AbortController();
  let http = listen(server, "127.0.0.1", 0, options, stop.signal);
  const { port } = http.addr as Deno.NetAddr, url = `https://127.0.0.1:${port}`;
  return {
    ...{ url, token, caFile, objects, requests, kubeconfig: await writeKubeconfig(dir, url, caFile, token) },
    accept: (accepted) => void (options.token = accepted),
    fail(lines, answer) {
      options.refuse = lines && answer && ((line) => lines.test(line) ? answer() : undefined);
    },
    async renewCertificate() {
      const fresh = await credentials(`${dir}/renewed`, hosts);
      stop.abort();
      await http.finished;
      await Deno.rename(fresh.caFile, caFile);
      stop = new AbortController();
      http = listen(fresh.server, "127.0.0.1", port, options, stop.signal);
    },
    put: (object) => Promise.resolve(void objects.put(pluralOf(object.kind ?? ""), object)),
    delete: (resource, namespace, name) => Promise.resolve(void objects.delete(resource, namespace, name)),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await http.finished;
    },
  };
}

/** Where a child API server stands. */
export interface ChildApiOptions {
  dir: string;
  /** Name of the network namespace it listens in. */
  netns: string;
  address: string;
  port: number;
  outlive?: boolean;
}

/** Starts the API in a process of its own inside a network namespace, for hosts on a wire. */
export async function startApiServer(options: ChildApiOptions): Promise<ApiServer> {
  const { caFile, token } = await credentials(options.dir, [options.address]);
  const url = `https://${options.address}:${options.port}`;
  const inside = ["nsenter", `--net=/run/netns/${options.netns}`];
  const die = options.outlive ? [] : ["--pdeathsig", "KILL"];
  const child = new Deno.Command("setpriv", {
    args: [
      ...[...die, "--", ...inside, Deno.execPath(), "run", "-A", "--no-check", new URL(import.meta.url).pathname],
      ...[options.dir, options.address, String(options.port)],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let ended = false;
  child.status.then(() => ended = true);
  const curl = (...args: string[]) =>
    runOk(inside[0]!, [
      ...[inside[1]!, "curl", "-fsS", "--max-time", "5", "--cacert", caFile, "-H", `Authorization: Bearer ${token}`],
      ...args,
    ]);
  await wait("the lab's API server", async () => ended || await curl(`${url}/version`));
  if (ended) throw new Error("the lab's API server ended by itself");
  return {
    ...{ url, token, caFile, kubeconfig: await writeKubeconfig(options.dir, url, caFile, token) },
    ...objectsByCurl(url, curl),
    async [Symbol.asyncDispose]() {
      if (!ended) child.kill("SIGKILL");
      await child.status;
    },
  };
}

/** Writing and deleting objects of an API server by curl, given with what lets it in. */
export function objectsByCurl(
  url: string,
  curl: (...words: string[]) => Promise<string>,
): Pick<ApiServer, "put" | "delete"> {
  return {
    async put(object) {
      const place = url + collectionOf(object), item = `${place}/${object.metadata.name}`;
      const exists = await curl(item).then(() => true, () => false);
      const words = ["-H", "Content-Type: application/json", "-d", JSON.stringify(written(object))];
      await curl("-X", exists ? "PUT" : "POST", ...words, exists ? item : place);
    },
    async delete(resource, namespace, name) {
      const group = resource === "networkpolicies" ? "/apis/networking.k8s.io/v1" : "/api/v1";
      const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
      await curl("-X", "DELETE", `${url}${group}${within}/${resource}/${name}`).catch((error) => {
        if (!/404/.test(String(error))) throw error;
      });
    },
  };
}

/** A body must name its version. */
const written = (object: ApiObject): ApiObject => ({ apiVersion: "v1", ...object });

function listen(
  server: Certificate,
  hostname: string,
  port: number,
  options: Parameters<typeof apiHandler>[0],
  signal: AbortSignal,
): Deno.HttpServer {
  const cert = Deno.readTextFileSync(server.certFile), key = Deno.readTextFileSync(server.keyFile);
  return Deno.serve({ hostname, port, cert, key, signal, onListen: () => {} }, apiHandler(options));
}

/** "Pod" → "pods"; the kinds that are served have regular plurals but for one. */
function pluralOf(kind: string): string {
  return kind === "Endpoints" ? "endpoints" : `${kind.toLowerCase()}s`.replace(/ys$/, "ies");
}

/** "/api/v1/namespaces/shop/pods", from the object's own words. */
function collectionOf(object: ApiObject): string {
  const version = object.apiVersion ?? "v1";
  const namespace = object.metadata.namespace;
  const within = namespace === undefined ? "" : `/namespaces/${namespace}`;
  return `${version === "v1" ? "/api/v1" : `/apis/${version}`}${within}/${pluralOf(object.kind ?? "")}`;
}

async function credentials(dir: string, hosts: string[]) {
  await Deno.mkdir(dir, { recursive: true });
  const authority = await makeAuthority(dir, "kubernetes-ca");
  const server = await authority.issue("kubernetes", hosts);
  const token = `lab-token-${uniqueSuffix()}${uniqueSuffix()}`;
  await Deno.writeTextFile(`${dir}/token`, token);
  return { caFile: authority.certFile, server, token };
}

async function writeKubeconfig(dir: string, url: string, caFile: string, token: string): Promise<string> {
  const file = `${dir}/kubeconfig`;
  const ca = btoa(await Deno.readTextFile(caFile));
  await Deno.writeTextFile(
    file,
    [
      ...["apiVersion: v1", "kind: Config", "current-context: lab", "clusters:", "- name: lab", "  cluster:"],
      ...[`    server: ${url}`, `    certificate-authority-data: ${ca}`],
      ...["users:", "- name: lab", "  user:", `    token: ${token}`],
      ...["contexts:", "- name: lab", "  context:", "    cluster: lab", "    user: lab", ""],
    ].join("\n"),
  );
  return file;
}

if (import.meta.main) {
  const [dir, address, port] = Deno.args as [string, string, string];
  const server = { certFile: `${dir}/kubernetes.crt`, keyFile: `${dir}/kubernetes.key` };
  const token = Deno.readTextFileSync(`${dir}/token`);
  const onRequest = (line: string, account?: string) => {
    Deno.writeTextFileSync(`${dir}/requests.log`, line + "\n", { append: true });
    if (account) Deno.writeTextFileSync(`${dir}/accounts.log`, `${account} ${line}\n`, { append: true });
  };
  const options = { objects: new ApiObjects(), token, onRequest };
  await listen(server, address, Number(port), options, new AbortController().signal).finished;
}
