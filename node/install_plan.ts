/** A thing that an installation puts on the disk. */
export type Item =
  | { path: string; is: "file"; text: string; mode: number; keep?: "edited" | "renewed" }
  | { path: string; is: "link"; target: string }
  /** `digest` = SHA-256 of the file to copy, hexadecimal. */
  | { path: string; is: "copy"; from: string; digest: string; mode: number };

/** What lies at a path now. `other` = a folder or something that is neither file nor link. */
export type Present =
  | { is: "absent" }
  | { is: "file"; digest: string; mode: number }
  | { is: "link"; target: string }
  | { is: "other" };

/** What was installed, kept so that it can be told from what others put in its place. */
export interface Manifest {
  version: string;
  /** By path: `sha256:…` of a file, `link:…` of a link. In the order of installing. */
  items: Record<string, string>;
  /** By path: where the foreign file lies that had to give way. */
  replaced: Record<string, string>;
  /** Folders that did not exist before, outermost first. */
  folders: string[];
}

/** An empty manifest. */
export const noManifest: Manifest = { version: "", items: {}, replaced: {}, folders: [] };

/** One change of the disk. `backup` = where the foreign file is moved first. */
export interface Change {
  item: Item;
  backup?: string;
  /** For people: `link /opt/cni/bin/calico -> /usr/local/bin/tortie`. */
  told: string;
}

/** What an installation changes, and which foreign files are in its way. */
export interface InstallPlan {
  changes: Change[];
  /** Paths of files that are not ours; nothing may be changed while there are any. */
  foreign: string[];
}

/** The mark by which a manifest knows an item. */
export function markOf(item: Item, digestOf: (text: string) => string): string {
  if (item.is === "link") return `link:${item.target}`;
  return `sha256:${item.is === "copy" ? item.digest : digestOf(item.text)}`;
}

/** The mark of what lies there; "" for what no manifest can hold. */
export const presentMark = (present: Present): string =>
  present.is === "link" ? `link:${present.target}` : present.is === "file" ? `sha256:${present.digest}` : "";

/**
 * Decides what an installation does at each path. A file is ours when the manifest has it as it is, or when it is what we
 * would write. A file marked `keep: "edited"` that is there is left alone: it holds the operator's settings.
 * One marked "renewed" is changed by the running node, so it is ours
 * whatever is in it.
 * @param force foreign files are moved aside instead of refused; folders never are.
 */
export function planInstall(
  items: Item[],
  present: Map<string, Present>,
  manifest: Manifest,
  force: boolean,
  digestOf: (text: string) => string,
): InstallPlan {
  const plan: InstallPlan = { changes: [], foreign: [] };
  for (const item of items) {
    const now = present.get(item.path) ?? { is: "absent" };
    const same = presentMark(now) === markOf(item, digestOf);
    if (same && (now.is !== "file" || !("mode" in item) || now.mode === item.mode)) continue;
    const keep = "keep" in item ? item.keep : undefined;
    if (now.is !== "absent" && keep === "edited") continue;
    const ours = now.is === "absent" || same || (keep === "renewed" && now.is === "file") ||
      manifest.items[item.path] === presentMark(now);
    if (ours) plan.changes.push({ item, told: tell(item, now) });
    else if (force && now.is !== "other") {
      plan.changes.push({
        item,
        backup: `${item.path}.before-tortie`,
        told: `${tell(item, now)}, the old one is kept`,
      });
    } else plan.foreign.push(item.path);
  }
  return plan;
}

function tell(item: Item, now: Present): string {
  const verb = now.is === "absent" ? "create" : "replace";
  return item.is === "link" ? `${verb} link ${item.path} -> ${item.target}` : `${verb} ${item.path}`;
}

/** What an uninstallation does: files to remove, files that somebody changed and that therefore stay, files to restore. */
export interface UninstallPlan {
  /** In the reverse order of installing. */
  remove: string[];
  kept: string[];
  /** From backup to path. */
  restore: [string, string][];
}

/**
 * @param editable paths of files that hold the operator's settings: they go whatever is in them, for they may hold
 * passwords. @param force changed files go too.
 */
export function planUninstall(
  manifest: Manifest,
  present: Map<string, Present>,
  editable: ReadonlySet<string>,
  force: boolean,
): UninstallPlan {
  const plan: UninstallPlan = { remove: [], kept: [], restore: [] };
  for (const [path, mark] of Object.entries(manifest.items).reverse()) {
    const now = present.get(path) ?? { is: "absent" };
    const backup = manifest.replaced[path];
    if (now.is === "absent" || now.is === "other") {
      if (now.is === "other") plan.kept.push(path);
      else if (backup !== undefined) plan.restore.push([backup, path]);
      continue;
    }
    if (presentMark(now) !== mark && !editable.has(path) && !force) {
      plan.kept.push(path);
      continue;
    }
    plan.remove.push(path);
    if (backup !== undefined) plan.restore.push([backup, path]);
  }
  return plan;
}
