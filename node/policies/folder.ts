import { messageOf } from "../../lib/problem.ts";
import { readIfThere, removeDurably, writeDurably } from "../../lib/durable_file.ts";

/** A file of the folder. */
export interface PolicyFile {
  name: string;
  text: string;
  /** Why it cannot be read: its text is "" then. */
  unreadable?: string;
  /** The text that was last taken over, which may be this one; undefined when none ever was. */
  lastGood: string | undefined;
}

/** Larger files are not read. */
const mostBytes = 10 << 20;

/** A link that leads nowhere is a fault; a file that has gone is none. */
const isLink = (path: string): Promise<boolean> => Deno.lstat(path).then((there) => there.isSymlink, () => false);

const isPolicyFile = (name: string): boolean => /^[^.].*\.(yaml|yml|json)$/i.test(name);

/** The folder that is watched, and beside it the last good text of each of its files, so that it outlives a restart. */
export class PolicyFolder {
  /** @param path the operator's. @param state a folder of ours. */
  constructor(readonly path: string, private readonly state: string) {}

  /** All files, by name. Undefined when there is no folder: then nothing is known of any file. */
  async files(): Promise<PolicyFile[] | undefined> {
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(this.path)) if (isPolicyFile(name)) names.push(name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
      throw error;
    }
    return (await Promise.all(names.sort().map((name) => this.read(name)))).flat();
  }

  /** One file, or none when it has just gone. Whatever lies there must not stop or hold up the others. */
  private async read(name: string): Promise<PolicyFile[]> {
    const path = `${this.path}/${name}`, lastGood = await readIfThere(this.lastGoodPath(name));
    const not = (unreadable: string) => [{ name, text: "", lastGood, unreadable }];
    try {
      const { isFile, size } = await Deno.stat(path);
      if (!isFile) return not("it is no file");
      if (size > mostBytes) return not(`it has more than ${mostBytes >> 20} MiB`);
      const text = await readIfThere(path);
      return text === undefined ? [] : [{ name, text, lastGood }];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound && !await isLink(path)) return [];
      return not(messageOf(error));
    }
  }

  /** Remembers a text that was taken over. */
  async keep(name: string, text: string): Promise<void> {
    await Deno.mkdir(this.state, { recursive: true, mode: 0o700 });
    await writeDurably(this.lastGoodPath(name), text, 0o600);
  }

  /** Forgets the last good text of a file that is gone. */
  async forget(name: string): Promise<void> {
    await removeDurably(this.lastGoodPath(name));
  }

  /** Names of files that were once taken over. */
  async known(): Promise<string[]> {
    try {
      return (await Array.fromAsync(Deno.readDir(this.state))).map((e) => e.name).filter(isPolicyFile);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  private lastGoodPath(name: string): string {
    return `${this.state}/${name}`;
  }
}
