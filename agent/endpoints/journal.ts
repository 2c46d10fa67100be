import { rfc3339 } from "../../lib/clock.ts";
import { writeDurably } from "../../lib/durable_file.ts";
import { isObject, type Json, parseJson, writeJson } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";
import { type Attachment, attachmentId } from "./attachment.ts";

/**
 * An attachment that must not exist any more: a DEL that etcd has not seen, or an ADD that has not ended. Replaying it
 * removes what is left of it and cannot touch a newer sandbox: addresses are found by the container's handle, the
 * endpoint goes only when its containerID is this one, the link only when its MAC is the one that this ADD chose.
 */
export interface JournalEntry {
  attachment: Attachment;
  /** etcd key of its WorkloadEndpoint; absent for addresses without an endpoint. */
  endpointKey?: string;
  /** Where the ADD was making the link, and the MAC that it chose for the pod's side; a DEL removes the link itself. */
  link?: { netns: string; mac: string };
  /** "add" while the ADD runs (or the process died in it); "delete" once it must go whatever happens. */
  because: "add" | "delete";
  /** RFC 3339. */
  time: string;
}

/** Where entries lie unless told otherwise; the CNI plugin writes here too when no agent answers. */
export const journalDir = "/var/lib/tortie/pending-del";

/** More entries than this are refused: something is wrong that more files do not cure. */
export const journalLimit = 50_000;

const suffix = ".json";

/**
 * Writes an entry so that it survives a power cut; replaces one of the same attachment.
 * @throws Problem "unavailable" when the disk refuses.
 */
export async function writeEntry(dir: string, entry: JournalEntry): Promise<void> {
  await makeDir(dir);
  await writeDurably(fileOf(dir, entry.attachment), textOf(entry), 0o600);
}

/** The entries on disk, one file each, and in memory. One process holds it; the plugin only adds "delete" entries. */
export class Journal {
  readonly #entries = new Map<string, JournalEntry>();
  constructor(readonly dir: string = journalDir) {}

  /**
   * Reads what is on disk: at start, and again from time to time for what the plugin wrote without us. Entries that we
   * know stay as they are. An unreadable file counts by its name, which says all that a replay needs.
   * @throws Problem "unavailable" when the folder cannot be read.
   */
  async scan(): Promise<void> {
    await makeDir(this.dir);
    try {
      for await (const file of Deno.readDir(this.dir)) {
        if (!file.name.endsWith(suffix)) continue;
        const attachment = attachmentOf(file.name);
        if (!attachment || this.#entries.has(attachmentId(attachment))) continue;
        const entry = await readEntry(`${this.dir}/${file.name}`, attachment);
        if (entry) this.#entries.set(attachmentId(attachment), entry);
      }
    } catch (cause) {
      throw new Problem({ code: "unavailable", what: "journal cannot be read", where: this.dir, cause });
    }
  }

  /** All entries, oldest first. */
  entries(): JournalEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  }

  /** The entry of an attachment. */
  get(attachment: Attachment): JournalEntry | undefined {
    return this.#entries.get(attachmentId(attachment));
  }

  /**
   * Says that an ADD begins. Not synced to disk: the file is there for the next process when this one is killed, and a
   * power cut takes the link with it. @throws Problem "unavailable" (disk full, too many entries).
   */
  async begin(entry: Omit<JournalEntry, "because" | "time">, nowMs: number): Promise<void> {
    const whole: JournalEntry = { ...entry, because: "add", time: rfc3339(nowMs) };
    this.#refuseTooMany();
    try {
      await Deno.writeTextFile(fileOf(this.dir, entry.attachment), textOf(whole), { mode: 0o600 });
    } catch (cause) {
      throw new Problem({ code: "unavailable", what: "journal cannot be written", where: this.dir, cause });
    }
    this.#entries.set(attachmentId(entry.attachment), whole);
  }

  /** Says that an attachment must go; survives a power cut. @throws Problem "unavailable". */
  async mustGo(entry: Omit<JournalEntry, "because" | "time">, nowMs: number): Promise<void> {
    const whole: JournalEntry = { ...entry, because: "delete", time: rfc3339(nowMs) };
    if (!this.#entries.has(attachmentId(entry.attachment))) this.#refuseTooMany();
    await writeEntry(this.dir, whole);
    this.#entries.set(attachmentId(entry.attachment), whole);
  }

  /** Forgets an entry: the ADD ended well, or nothing of the attachment is left. */
  async drop(attachment: Attachment): Promise<void> {
    try {
      await Deno.remove(fileOf(this.dir, attachment));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        throw new Problem({ code: "unavailable", what: "journal cannot be written", where: this.dir, cause: error });
      }
    }
    this.#entries.delete(attachmentId(attachment));
  }

  #refuseTooMany(): void {
    if (this.#entries.size < journalLimit) return;
    throw new Problem({
      code: "unavailable",
      what: `${journalLimit} deletes wait for etcd`,
      where: this.dir,
      todo: "See why the agent cannot reach etcd: `tortie ctl node status`",
    });
  }
}

/** The part of a Journal that others work with; a test keeps it in memory. */
export type OpenJournal = Pick<Journal, "scan" | "entries" | "get" | "begin" | "mustGo" | "drop">;

const fileOf = (dir: string, attachment: Attachment): string => `${dir}/${attachmentId(attachment)}${suffix}`;

/** Interface names may hold a comma, network names and container ids not. */
function attachmentOf(fileName: string): Attachment | undefined {
  const parts = /^([^,]+),([^,]+),(.+)\.json$/.exec(fileName);
  return parts ? { network: parts[1]!, containerId: parts[2]!, interfaceName: parts[3]! } : undefined;
}

function textOf(entry: JournalEntry): string {
  const { attachment, endpointKey, link, because, time } = entry;
  return writeJson({ ...attachment, endpointKey, link, because, time }) + "\n";
}

/** Undefined when the file went meanwhile. */
async function readEntry(path: string, attachment: Attachment): Promise<JournalEntry | undefined> {
  const bare: JournalEntry = { attachment, because: "delete", time: "" };
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return { ...bare, ...membersOf(text) };
}

function membersOf(text: string): Partial<JournalEntry> {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
  if (!isObject(value)) return {};
  const { endpointKey, link, because, time } = value;
  const linkOk = isObject(link) && typeof link.netns === "string" && typeof link.mac === "string";
  return {
    ...(typeof endpointKey === "string" ? { endpointKey } : {}),
    ...(linkOk ? { link: { netns: link.netns as string, mac: link.mac as string } } : {}),
    because: because === "add" ? "add" : "delete",
    time: typeof time === "string" ? time : "",
  };
}

async function makeDir(dir: string): Promise<void> {
  try {
    await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new Problem({ code: "unavailable", what: "folder cannot be made", where: dir, cause });
  }
}
