import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";

/** Bytes of a file's name, with the temporary one's ending; names of pods and namespaces together can be longer. */
const longestName = 255 - ".tmp".length;

/**
 * A folder with a file for each workload that is up: what Calico's CNI plugin waits for with
 * `policy_setup_timeout_seconds`. What nobody wants is removed, also what an earlier process left.
 * Source: Calico's felix/statusrep/status_file_reporter.go.
 */
export class StatusFiles {
  readonly #log: Logger;
  /** What is in which folder; undefined = it has to be looked at. */
  #known: { folder: string; files: Map<string, string> } | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Makes the folder `<prefix>/endpoint-status` hold these files and no others. @returns whether it does now. */
  async want(prefix: string, files: ReadonlyMap<string, string>): Promise<boolean> {
    const folder = `${prefix}/endpoint-status`;
    try {
      if (this.#known?.folder !== folder) this.#known = { folder, files: await read(folder) };
      const { files: have } = this.#known;
      for (const [name, text] of files) {
        if (have.get(name) === text) continue;
        if (name.length > longestName) {
          this.#log.warn("name of an endpoint is too long for a file of its state", { name });
          continue;
        }
        await replace(`${folder}/${name}`, text);
        have.set(name, text);
      }
      for (const name of [...have.keys()]) {
        if (files.has(name)) continue;
        await remove(`${folder}/${name}`);
        have.delete(name);
      }
      return true;
    } catch (error) {
      this.#known = undefined;
      this.#log.warn("files of endpoints' states could not be written", { folder, why: messageOf(error) });
      return false;
    }
  }
}

async function read(folder: string): Promise<Map<string, string>> {
  await Deno.mkdir(folder, { recursive: true, mode: 0o755 });
  const found = new Map<string, string>();
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile) found.set(name, await Deno.readTextFile(`${folder}/${name}`));
  }
  return found;
}

/** Nobody reads half a file. The folder lies in memory and is written anew at each start: nothing needs to be durable. */
async function replace(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  await Deno.writeTextFile(temporary, text, { mode: 0o644 });
  await Deno.rename(temporary, path);
}

async function remove(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
