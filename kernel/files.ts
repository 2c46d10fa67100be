import { readIfThere, removeDurably, writeDurably } from "../lib/durable_file.ts";
import type { Port } from "./reconcile.ts";

/** Content of a file that is ours. */
export interface FileContent {
  text: string;
  /** Permission bits at its making; default 0644. */
  mode?: number;
}

/**
 * Files by absolute path. `paths` answers those that may be ours: only they are read, and removed when nobody wants them.
 * Each is replaced as a whole, so nobody ever reads half of one.
 */
export function filePort(name: string, paths: () => Iterable<string>): Port<string, FileContent> {
  const read = async (some: Iterable<string>) => {
    const found = new Map<string, FileContent>();
    for (const path of [...some]) {
      const text = await readIfThere(path);
      if (text !== undefined) found.set(path, { text });
    }
    return found;
  };
  return {
    name,
    list: () => read(paths()),
    read,
    same: (have, want) => have.text === want.text,
    async apply(put, remove) {
      const failed = new Map<string, Error>();
      const attempt = async (path: string, work: () => Promise<void>) => {
        try {
          await work();
        } catch (error) {
          if (!(error instanceof Error)) throw error;
          failed.set(path, error);
        }
      };
      for (const [path, { text, mode }] of put) {
        await attempt(path, async () => {
          await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
          await writeDurably(path, text, mode);
        });
      }
      for (const path of remove) await attempt(path, () => removeDurably(path));
      return failed;
    },
  };
}
