import { parseArgs } from "node:util";
import { systemClock } from "../lib/clock.ts";
import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { nodeName } from "../lib/node_name.ts";
import { Problem } from "../lib/problem.ts";
import { version } from "../lib/version.ts";
import { KubernetesClients } from "../datastore/kubernetes/client.ts";
import { freshKubeconfig, newKubeconfig } from "./kubernetes_access.ts";
import {
  accountKubeconfig,
  defaultInstallOptions,
  environmentFile,
  installItems,
  type InstallOptions,
  manifestFile,
  withSettings,
} from "./install_items.ts";
import { type InstallPlan, markOf, planInstall } from "./install_plan.ts";
import {
  applyChange,
  digestOfFile,
  digestOfText,
  lookAt,
  makeFolders,
  missingFolders,
  readManifest,
  writeManifest,
} from "./installation.ts";
import { knownSettings } from "./settings.ts";
import { hasSystemd, startUnits } from "./systemctl.ts";
import { uninstallHost, type UninstallOptions } from "./uninstall.ts";

/** The account of the manifests. */
const defaultServiceAccount = "kube-system/tortie-node";

const installUsage = `usage: tortie install [--dry-run] [--force] [--set NAME=VALUE]... [options]

Copies this program to --bin-dir, links it as calicoctl and as CNI plugins (calico, calico-ipam, tortie-ipam), writes and
starts the systemd units, and, last, the CNI configuration. Running it again changes what differs and nothing else.

  --set NAME=VALUE      a setting for /etc/tortie/tortie.env, such as ETCD_ENDPOINTS=http://10.0.0.1:2379
  --kubeconfig FILE     for the CNI configuration: pods' labels and annotations come from Kubernetes
  --kubernetes          write ${accountKubeconfig} with a token of --service-account, which the node renews, and use it.
                        Who asks for the token: --kubeconfig, else KUBECONFIG, else the pod's own account
  --service-account NS/NAME  default ${defaultServiceAccount}
  --dry-run             say what would be done, do nothing
  --force               move foreign files aside (FILE.before-tortie; uninstall puts them back)
  --no-start            enable the units, but do not start them
  --no-cni              no CNI links and no CNI configuration
  --no-systemd          no units and no environment file
  --bin-dir DIR         default ${defaultInstallOptions.binDir}
  --cni-bin-dir DIR     default ${defaultInstallOptions.cniBinDir}
  --cni-conf-dir DIR    default ${defaultInstallOptions.cniConfDir}
  --cni-conf-name NAME  default ${defaultInstallOptions.cniConfName}
  --binary FILE         the program to install, default this one
  --root DIR            install into DIR instead of /, and start nothing
`;

const uninstallUsage = `usage: tortie uninstall [--dry-run] [--force] [--keep-pods] [--root DIR]

Stops the units and removes everything that install and a running node leave on this host: CNI configuration, units,
links, state, pods' interfaces, routes. Files that others changed since are kept and named. IP forwarding stays on, and
the datastore keeps the node: \`tortie ctl delete node NAME\` removes it.

  --dry-run   say what would be done, do nothing
  --keep-pods leave pods, rules, routes and state, for Calico to take them over: the way back of a migration
  --force     remove changed files too, and go on while an agent runs that systemd does not know
  --root DIR  uninstall from DIR instead of /; nothing but files is touched
`;

/** `tortie install`. @returns the exit code: 2 for a wrong call, 1 when something is in the way. */
export const install = (args: string[]): Promise<number> => guarded(installUsage, () => runInstall(args));

/** `tortie uninstall`. @returns the exit code: 1 when something had to stay. */
export const uninstall = (args: string[]): Promise<number> => guarded(uninstallUsage, () => runUninstall(args));

/** Runs a command: a wrong call tells its usage (2), a Problem its sentence (1). @returns the exit code. */
export async function guarded(usage: string, work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS")) {
      console.error(`tortie: ${error.message}\n\n${usage.trimEnd()}`);
      return 2;
    }
    const denied = error instanceof Deno.errors.PermissionDenied;
    if (!(error instanceof Problem) && !denied) throw error;
    console.error(`tortie: ${error.message}${denied ? ". Run it as root" : ""}`);
    return 1;
  }
}

async function runInstall(args: string[]): Promise<number> {
  const text = { type: "string" } as const, flag = { type: "boolean" } as const;
  const { values } = parseArgs({
    args,
    strict: true,
    allowNegative: true,
    options: {
      help: { ...flag, short: "h" },
      "dry-run": flag,
      force: flag,
      start: flag,
      cni: flag,
      systemd: flag,
      set: { ...text, multiple: true },
      kubeconfig: text,
      kubernetes: flag,
      "service-account": text,
      "bin-dir": text,
      "cni-bin-dir": text,
      "cni-conf-dir": text,
      "cni-conf-name": text,
      binary: text,
      root: text,
    },
  });
  if (values.help) return say(installUsage);
  const root = (values.root ?? "").replace(/\/+$/, "");
  const set = settingsOf(values.set ?? []);
  const account = values.kubernetes ? await accountOptions(root, values) : undefined;
  const defaults = defaultInstallOptions;
  const options: InstallOptions = {
    ...defaults,
    root,
    binDir: values["bin-dir"] ?? defaults.binDir,
    cniBinDir: values["cni-bin-dir"] ?? defaults.cniBinDir,
    cniConfDir: values["cni-conf-dir"] ?? defaults.cniConfDir,
    cniConfName: values["cni-conf-name"] ?? defaults.cniConfName,
    kubeconfig: account ? accountKubeconfig : values.kubeconfig ?? "",
    kubeconfigText: account ?? "",
    set: account ? { ...kubernetesSettings(set), ...set } : set,
    cni: values.cni ?? true,
    systemd: values.systemd ?? true,
  };
  const how = { dryRun: values["dry-run"] ?? false, force: values.force ?? false, start: values.start ?? true };
  return await installHost(options, values.binary ?? Deno.execPath(), how);
}

/** The node that Kubernetes knows has this node's name; controllers take away the nodes that Kubernetes knows no more. */
const kubernetesSettings = (set: Record<string, string>): Record<string, string> => ({
  KUBECONFIG: accountKubeconfig,
  CALICO_K8S_NODE_REF: nodeName({ env: (name) => set[name] }),
});

/** The kubeconfig that is there, as long as its token is fresh; else a new one. */
async function accountOptions(
  root: string,
  values: { kubeconfig?: string; "service-account"?: string },
): Promise<string> {
  const words = values["service-account"] ?? defaultServiceAccount;
  const [, namespace, account] = /^([^/]+)\/([^/]+)$/.exec(words) ?? [];
  if (!namespace || !account) {
    throw new Problem({ code: "bad-input", what: `"${words}" is not NAMESPACE/NAME`, where: "--service-account" });
  }
  const there = freshKubeconfig(await readIfThere(root + accountKubeconfig), accountKubeconfig, systemClock.now());
  if (there !== undefined) return there;
  const env = (name: string) => Deno.env.get(name) || undefined;
  const kubeconfig = values.kubeconfig ?? env("KUBECONFIG");
  using clients = new KubernetesClients();
  return await newKubeconfig(await clients.for(kubeconfig ? { kubeconfig } : {}, env), namespace, account);
}

function settingsOf(pairs: string[]): Record<string, string> {
  return Object.fromEntries(pairs.map((pair) => {
    const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=([^\n]*)$/s.exec(pair) ?? [];
    if (name === undefined) {
      throw new Problem({ code: "bad-input", what: `"${pair}" is not NAME=VALUE`, where: "--set" });
    }
    if (!knownSettings.some((s) => s.name === name) && !/^FELIX_/i.test(name)) {
      throw new Problem({ code: "bad-input", what: `there is no setting called ${name}`, where: "--set" });
    }
    return [name, value!];
  }));
}

async function installHost(
  options: InstallOptions,
  binary: string,
  how: { dryRun: boolean; force: boolean; start: boolean },
): Promise<number> {
  const { root } = options;
  if (/(^|\/)deno$/.test(binary)) {
    throw new Problem({
      code: "bad-input",
      what: "this is not the compiled program",
      where: binary,
      todo: "Build it with `deno task build` and run `build/tortie install`, or name it with --binary",
    });
  }
  const chained = await lookAt(root, ["portmap", "bandwidth"].map((name) => `${options.cniBinDir}/${name}`));
  const has = (plugin: string) => chained.get(`${options.cniBinDir}/${plugin}`)?.is !== "absent";
  const items = installItems(options, { path: binary, digest: await digestOfFile(binary) }, has);
  const digests = new Map<string, string>();
  for (const item of items) if (item.is === "file") digests.set(item.text, await digestOfText(item.text));
  const digestOf = (text: string) => digests.get(text)!;
  const manifest = await readManifest(root);
  const present = await lookAt(root, items.map((item) => item.path));
  const plan = planInstall(items, present, manifest, how.force, digestOf);
  if (plan.foreign.length > 0) throw foreignFiles(plan.foreign);
  const edits = await settingEdits(options, plan);
  for (const line of [...plan.changes.map((c) => c.told), ...(edits ? [`change ${environmentFile}`] : [])]) {
    console.log(how.dryRun ? `would ${line}` : line);
  }
  if (how.dryRun) return 0;
  const paths = [manifestFile, ...items.map((item) => item.path)];
  const replaced = plan.changes.flatMap(({ item, backup }) => (backup === undefined ? [] : [[item.path, backup]]));
  const marks = items.map((item): [string, string] => [item.path, markOf(item, digestOf)]);
  await writeManifest(root, {
    version,
    items: { ...manifest.items, ...Object.fromEntries(marks) },
    replaced: { ...manifest.replaced, ...Object.fromEntries(replaced) },
    folders: [...new Set([...manifest.folders, ...await missingFolders(root, paths)])],
  });
  await makeFolders(root, plan.changes.map((c) => c.item.path));
  const isLast = (path: string) => options.cni && path === `${options.cniConfDir}/${options.cniConfName}`;
  for (const change of plan.changes.filter((c) => !isLast(c.item.path))) await applyChange(root, change);
  if (edits) await writeDurably(root + environmentFile, edits, 0o600);
  if (options.systemd) await start(options, plan, edits !== undefined, how.start);
  for (const change of plan.changes.filter((c) => isLast(c.item.path))) await applyChange(root, change);
  if (plan.changes.length === 0 && !edits) console.log("everything is installed already");
  return 0;
}

function foreignFiles(paths: string[]): Problem {
  return new Problem({
    code: "exists",
    what: `${paths.length === 1 ? "a file that is" : "files that are"} not tortie's: ${paths.join(", ")}`,
    todo: "Remove them, or use --force to have them moved aside",
  });
}

/** The environment file with the settings of --set, when it was there before and they are not in it yet. */
async function settingEdits(options: InstallOptions, plan: InstallPlan): Promise<string | undefined> {
  const isNew = plan.changes.some((c) => c.item.path === environmentFile);
  if (!options.systemd || isNew || Object.keys(options.set).length === 0) return undefined;
  const text = await readIfThere(options.root + environmentFile) ?? "";
  const edited = withSettings(text, options.set);
  return edited === text ? undefined : edited;
}

async function start(options: InstallOptions, plan: InstallPlan, edited: boolean, now: boolean): Promise<void> {
  if (options.root !== "") return;
  if (!await hasSystemd()) return console.log("systemd does not run here: the units are installed, nothing is started");
  const changed = new Set(plan.changes.map((c) => c.item.path.slice(c.item.path.lastIndexOf("/") + 1)));
  const nodeChanged = edited || ["tortie", "tortie.service", "tortie.env"].some((name) => changed.has(name));
  for (const told of await startUnits({ start: now, restartNode: nodeChanged })) console.log(told);
}

async function runUninstall(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    strict: true,
    options: {
      help: { type: "boolean", short: "h" },
      "dry-run": { type: "boolean" },
      force: { type: "boolean" },
      "keep-pods": { type: "boolean" },
      root: { type: "string" },
    },
  });
  if (values.help) return say(uninstallUsage);
  const options: UninstallOptions = {
    root: (values.root ?? "").replace(/\/+$/, ""),
    dryRun: values["dry-run"] ?? false,
    force: values.force ?? false,
    keepPods: values["keep-pods"] ?? false,
  };
  const { done, kept } = await uninstallHost(options);
  for (const line of done) console.log(options.dryRun ? `would ${line}` : line);
  for (const line of kept) console.error(`tortie: ${line}`);
  return kept.length > 0 ? 1 : 0;
}

function say(text: string): number {
  console.log(text.trimEnd());
  return 0;
}
