import { Problem } from "./problem.ts";

/** Folder part of a path. */
const folderOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf("/"), 1));

/**
 * Replaces a file so that a crash leaves the old or the new content, never a part: temporary file beside it, fsync,
 * rename, fsync of the folder.
 * @param data text, bytes, or pieces of bytes that are made one by one while the file is written.
 * @param mode permission bits of the file, default 0644.
 */
export async function writeDurably(
  path: string,
  data: string | Uint8Array | Iterable<Uint8Array>,
  mode = 0o644,
): Promise<void> {
  const temporary = `${path}.${Deno.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    const file = await Deno.open(temporary, { write: true, createNew: true, mode });
    try {
      const whole = typeof data === "string" ? new TextEncoder().encode(data) : data;
      for (const bytes of whole instanceof Uint8Array ? [whole] : whole) {
        for (let n = 0; n < bytes.length;) n += await file.write(bytes.subarray(n));
      }
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(temporary, path);
    await syncFolder(folderOf(path));
  } catch (cause) {
    await Deno.remove(temporary).catch(() => {});
    throw new Problem({ code: "unavailable", what: "file cannot be written", where: path, cause });
  }
}

/** Removes a file and makes the removal durable; missing is fine. */
export async function removeDurably(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new Problem({ code: "unavailable", what: "file cannot be removed", where: path, cause: error });
  }
  await syncFolder(folderOf(path));
}

/** The file's text; undefined when it does not exist. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await Deno.open(folder, { read: true });
  try {
    await handle.sync();
  } finally {
    handle.close();
  }
}

/**
 * Runs `work` while holding the exclusive flock(2) of `path`, which excludes other programs that lock the same file.
 * The file is made when missing and stays.
 */
export async function withFileLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const file = await Deno.open(path, { create: true, write: true });
  try {
    await file.lock(true);
    return await work();
  } finally {
    file.close();
  }
}
