import type { Clock } from "../../lib/clock.ts";
import { type Family, isGlobalUnicast } from "../../lib/ip.ts";
import { readIfThere } from "../../lib/durable_file.ts";
import { ownCommand, run, startDetached } from "../../lib/process.ts";
import { NoAnswer, unixRequest } from "../../lib/unix_http.ts";
import { Problem } from "../../lib/problem.ts";
import { defaultDeadlineMs, type StoreOptions, storeOptions } from "../../datastore/options.ts";
import { guardKey } from "../../datastore/pending.ts";
import type { Store } from "../../datastore/store.ts";
import { isExcludedByDefault, type LocalInterface } from "../interfaces.ts";
import { install } from "../install.ts";
import { environmentFile } from "../install_items.ts";
import { loadSettings } from "../settings.ts";
import { hasSystemd } from "../systemctl.ts";

/** How this host is, or will be, connected. */
export interface Connection {
  options: StoreOptions;
  /** The datastore is this host's own. */
  embedded: boolean;
  runDir: string;
  setting(name: string): string | undefined;
}

/**
 * The datastore that the environment, tortie's files or an installed unit's settings name; without any it is the host's
 * own. @throws Problem "bad-input".
 */
export async function connectionOfHost(): Promise<Connection> {
  const settings = await loadSettings(), ofUnit = parseEnvironment(await readIfThere(environmentFile) ?? "");
  const setting = (name: string) => settings.get(name) ?? ofUnit.get(name);
  const runDir = setting("TORTIE_RUN_DIR") ?? "/run/tortie";
  const own = `unix://${runDir}/store.sock`, endpoints = setting("ETCD_ENDPOINTS");
  const named = endpoints !== undefined && endpoints !== own;
  if (named && setting("TORTIE_DATASTORE") !== "embedded") {
    return { options: storeOptions({ env: setting }), embedded: false, runDir, setting };
  }
  return { options: { endpoints: [own], deadlineMs: defaultDeadlineMs }, embedded: true, runDir, setting };
}

/** `NAME=value` or `NAME="value"` a line. Source: systemd.exec(5), EnvironmentFile. */
function parseEnvironment(text: string): Map<string, string> {
  return new Map(
    text.split("\n").flatMap((line) => {
      const [, name, value] = /^([A-Za-z_]\w*)=(.*)$/.exec(line.trim()) ?? [];
      if (!name) return [];
      const quoted = /^(["'])(.*)\1$/.exec(value!)?.[2];
      return [[name, quoted === undefined ? value! : quoted.replace(/\\(.)/g, "$1")]];
    }),
  );
}

/** True when something listens on a socket of this host. */
export const listens = (path: string): Promise<boolean> =>
  Deno.connect({ transport: "unix", path }).then((connection) => (connection.close(), true), () => false);

/**
 * Starts the node, and with it the host's own datastore, unless they run: as units where systemd is, else as processes of
 * their own, which do not come back after a reboot.
 */
export async function ensureNode(
  { embedded, runDir, setting }: Connection,
  interfaces: readonly LocalInterface[],
  tell: (line: string) => void,
): Promise<void> {
  if (await listens(`${runDir}/agent.sock`)) return;
  const backend = setting("CALICO_NETWORKING_BACKEND") ?? "none";
  const settings: Record<string, string> = embedded
    ? { TORTIE_DATASTORE: "embedded", ETCD_ENDPOINTS: "", NO_DEFAULT_POOLS: "true", ...addressSettings(interfaces) }
    : { CALICO_NETWORKING_BACKEND: backend };
  if (await hasSystemd() && Deno.build.standalone) {
    if (!embedded) settings.ETCD_ENDPOINTS = setting("ETCD_ENDPOINTS")!;
    const set = Object.entries(settings).filter(([, value]) => value !== "").flatMap((
      [name, value],
    ) => ["--set", `${name}=${value}`]);
    if (await install(["--no-cni", ...set]) === 0) return;
    throw new Problem({ code: "unavailable", what: "installing failed: nothing is protected" });
  }
  tell("starting tortie node; without systemd it does not start again after a reboot");
  await Deno.mkdir(runDir, { recursive: true, mode: 0o755 });
  await startDetached([...ownCommand(), "node"], `${runDir}/node.log`, settings);
}

/**
 * With backend "vxlan" and no pools nothing is made in the kernel, but the Node tells its addresses, by which `why`, `diff` and
 * the guard of sessions know the host. A host without any address that others could use has nothing to tell.
 */
function addressSettings(interfaces: readonly LocalInterface[]): Record<string, string> {
  const has = (v: Family) =>
    interfaces.some((i) =>
      !isExcludedByDefault(i.name) && i.addresses.some((a) => a.ip.v === v && isGlobalUnicast(a.ip))
    );
  const methods = { IP: has(4) ? "autodetect" : "none", IP6: has(6) ? "autodetect" : "none" };
  return has(4) || has(6) ? { CALICO_NETWORKING_BACKEND: "vxlan", ...methods } : { CALICO_NETWORKING_BACKEND: "none" };
}

/** How long a node may take to start and to be in step with its datastore. */
const startMs = 30_000;
const lookMs = 50;

/** Waits until the node has started up and undoes what nobody confirms. @throws Problem "unavailable". */
export async function nodeReady(store: () => Store, { runDir }: Connection, node: string, clock: Clock): Promise<void> {
  const otherwise = `tortie node on this host did not start; see ${runDir}/node.log, or journalctl -u tortie`;
  await eventually(clock, otherwise, async () => {
    const ask = { method: "GET", target: "/readyz", timeoutMs: 2_000 };
    const answer = await unixRequest(`${runDir}/api.sock`, ask).catch(nobodyThere);
    return answer?.status === 200 && await store().get(guardKey(node)) !== undefined;
  });
}

function nobodyThere(error: unknown): undefined {
  const { NotFound, ConnectionRefused } = Deno.errors;
  if (error instanceof NotFound || error instanceof ConnectionRefused || error instanceof NoAnswer) return undefined;
  throw error;
}

/** Waits until the kernel holds the chains of the interfaces' host endpoints. @throws Problem "unavailable". */
export async function inForce(interfaces: readonly string[], clock: Clock): Promise<void> {
  const chain = (name: string) =>
    new RegExp(`^-A cali-from-host-endpoint -i ${name.replace(/\W/g, "\\$&")} .*-g cali-fh-`, "m");
  await eventually(clock, "the rules are not in the kernel; see `tortie ctl node status`", async () => {
    for (const program of ["iptables-nft-save", "iptables-legacy-save"]) {
      const rules = await run(program, ["-t", "filter"], { timeoutMs: 5_000 }).catch(() => undefined);
      if (rules?.code === 0 && interfaces.every((name) => chain(name).test(rules.stdout))) return true;
    }
    return false;
  });
}

async function eventually(clock: Clock, otherwise: string, done: () => Promise<boolean>): Promise<void> {
  const endMs = clock.monotonicMs() + startMs;
  for (let failure: unknown; clock.monotonicMs() < endMs;) {
    try {
      if (await done()) return;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      failure = error;
    }
    await clock.sleep(lookMs);
    if (clock.monotonicMs() >= endMs) throw new Problem({ code: "unavailable", what: otherwise, cause: failure });
  }
}
