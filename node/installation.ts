import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { Problem } from "../lib/problem.ts";
import { manifestFile } from "./install_items.ts";
import { type Change, type Item, type Manifest, noManifest, type Present } from "./install_plan.ts";

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/** SHA-256 of a text, hexadecimal. */
export async function digestOfText(text: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

/** SHA-256 of a file, hexadecimal. */
export async function digestOfFile(path: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path))));
}

/** What lies at each path (below `root`) now. */
export async function lookAt(root: string, paths: Iterable<string>): Promise<Map<string, Present>> {
  const found = new Map<string, Present>();
  for (const path of paths) found.set(path, await presentAt(root + path));
  return found;
}

async function presentAt(path: string): Promise<Present> {
  try {
    const info = await Deno.lstat(path);
    if (info.isSymlink) return { is: "link", target: await Deno.readLink(path) };
    if (!info.isFile) return { is: "other" };
    return { is: "file", digest: await digestOfFile(path), mode: info.mode! & 0o7777 };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return { is: "absent" };
    throw error;
  }
}

/** The manifest of the installation below `root`; an empty one when there is none. @throws Problem "undecodable". */
export async function readManifest(root: string): Promise<Manifest> {
  const text = await readIfThere(root + manifestFile);
  if (text === undefined) return noManifest;
  try {
    return { ...noManifest, ...JSON.parse(text) };
  } catch (cause) {
    throw new Problem({
      code: "undecodable",
      what: "list of installed files cannot be read",
      where: manifestFile,
      cause,
    });
  }
}

/** Stores the manifest; its folder is made when missing. */
export async function writeManifest(root: string, manifest: Manifest): Promise<void> {
  await makeFolders(root, [manifestFile]);
  await writeDurably(root + manifestFile, JSON.stringify(manifest, null, 2) + "\n");
}

/** Folders of `paths` that do not exist yet, outermost first. */
export async function missingFolders(root: string, paths: string[]): Promise<string[]> {
  const missing = new Set<string>();
  for (const path of paths) {
    const parts = path.split("/").slice(1, -1);
    for (let n = 1; n <= parts.length; n++) {
      const folder = `/${parts.slice(0, n).join("/")}`;
      if ((await presentAt(root + folder)).is === "absent") missing.add(folder);
    }
  }
  return [...missing].sort((a, b) => a.split("/").length - b.split("/").length);
}

/** Makes the folders of `paths`: our state is for us alone, the rest is for everybody to read. */
export async function makeFolders(root: string, paths: string[]): Promise<void> {
  for (const folder of await missingFolders(root, paths)) {
    await Deno.mkdir(root + folder, {
      mode: manifestFile.startsWith(`${folder}/`) && folder.endsWith("/tortie") ? 0o700 : 0o755,
    });
  }
}

/** Brings one change to the disk: at each moment the old or the new file is there, or the backup and nothing. */
export async function applyChange(root: string, { item, backup }: Change): Promise<void> {
  if (backup !== undefined) await Deno.rename(root + item.path, root + backup);
  if (item.is === "file") return await writeDurably(root + item.path, item.text, item.mode);
  const temporary = `${root}${item.path}.new`;
  await removeIfThere(temporary);
  if (item.is === "link") await Deno.symlink(item.target, temporary);
  else await copyTo(item, temporary);
  await Deno.rename(temporary, root + item.path);
}

async function copyTo(item: Extract<Item, { is: "copy" }>, temporary: string): Promise<void> {
  await Deno.copyFile(item.from, temporary);
  await Deno.chmod(temporary, item.mode);
}

/** Removes a file or link; missing is fine. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Removes a folder with everything in it; missing is fine. */
export async function removeTree(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Removes a folder when it is empty; true when it is gone. */
export async function removeIfEmpty(path: string): Promise<boolean> {
  try {
    for await (const _ of Deno.readDir(path)) return false;
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return true;
}
