/**
 * Rows in one SQLite file: write-ahead log, fsync at each commit, locked for this process alone. A row's id is its revision
 * and its place within it, so order of ids is order of changes.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { messageOf, Problem } from "../lib/problem.ts";
import type { KeyValue } from "./messages.ts";
import { type Change, isOpenEnd, type Keys, type Numbers, type Rows } from "./rows.ts";

/** "tort", by which the file is known as ours. */
const applicationId = 0x746f7274;
const schemaVersion = 1;
const placeBits = 24n;

const schema = `
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL,
  created INTEGER NOT NULL,
  version INTEGER NOT NULL,
  lease INTEGER NOT NULL,
  value BLOB
);
CREATE INDEX event_key ON event (key, id, created);
CREATE TABLE live (key BLOB PRIMARY KEY, event INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL);
CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
`;

/** SQLite's result codes that are told apart (sqlite.org/rescode.html). */
const Result = { busy: 5, readOnly: 8, ioError: 10, corrupt: 11, full: 13, cannotOpen: 14, notADatabase: 26 } as const;

/** The primary result code of what SQLite threw; undefined when it is something else. */
export function sqliteResult(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | undefined)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

/** The disk, or the file's quota, is full. */
export const isFull = (error: unknown): boolean => sqliteResult(error) === Result.full;

/** The file's content is not what was written. */
export const isCorrupt = (error: unknown): boolean =>
  sqliteResult(error) === Result.corrupt || sqliteResult(error) === Result.notADatabase;

/**
 * Opens the file, makes it when it is missing, and reads all of it once to see that it is whole. Nothing is repaired.
 * @param path ":memory:" for a store that forgets. @param random 64 random bits, for the ids of a new store.
 * @throws Problem "bad-input" (not ours, damaged, newer), "conflict" (another process has it), "unavailable" (disk).
 */
export function openRows(path: string, random: () => bigint = randomId): Rows {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path);
    return new SqliteRows(database, path, random);
  } catch (error) {
    const problem = openProblem(error, path);
    // Closing may write what the -wal file holds: a damaged file is not touched, the end of the process lets it go.
    if (!isDamage(problem)) database?.close();
    throw problem;
  }
}

const isDamage = (error: unknown) => error instanceof Problem && /damaged/.test(error.what);

const randomId = () => crypto.getRandomValues(new BigUint64Array(1))[0]! >> 1n;

function openProblem(error: unknown, path: string): unknown {
  const result = sqliteResult(error);
  if (result === undefined) return error;
  if (result === Result.busy) {
    return new Problem({
      code: "conflict",
      what: "another process has the store's file open",
      where: path,
      todo: "Only one tortie store may run on a file: stop the other one (systemctl status tortie-store)",
    });
  }
  if (isCorrupt(error)) return damaged(path, messageOf(error));
  const todo = isFull(error) ? "Make room on its file system" : "Check the folder, its rights and its disk";
  return new Problem({
    code: "unavailable",
    what: "the store's file cannot be opened",
    where: path,
    todo,
    cause: error,
  });
}

/** What is said of a file that is not whole. */
export const damaged = (path: string, why: string): Problem =>
  new Problem({
    code: "bad-input",
    what: `the store's file is damaged: ${why}`,
    where: path,
    todo:
      "It was left as it is. Put a backup in its place, or move it away (with its -wal file) to begin with an empty " +
      "store; `sqlite3 FILE .recover` may save what is readable",
  });

class SqliteRows implements Rows {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync, path: string, random: () => bigint) {
    this.#db = database;
    // The lock is taken by the first access and held; without it no shared memory is needed beside the file.
    this.#set("locking_mode = EXCLUSIVE");
    const isNew = this.#number("SELECT count(*) AS n FROM sqlite_schema") === 0n;
    if (isNew) this.#set("auto_vacuum = INCREMENTAL");
    else this.#check(path); // before anything is written
    this.#set("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 16777216");
    if (isNew) this.#make(random);
  }

  #check(path: string): void {
    if (this.#pragma("application_id") !== BigInt(applicationId)) {
      throw new Problem({
        code: "bad-input",
        what: "the file is no tortie store",
        where: path,
        todo: "Name another file",
      });
    }
    const version = this.#pragma("user_version");
    if (version !== BigInt(schemaVersion)) {
      throw new Problem({
        code: "bad-input",
        what: `the store's file has version ${version}, this program knows ${schemaVersion}`,
        where: path,
        todo: "Use the program that made it, or a newer one",
      });
    }
    const found = Object.values(this.#db.prepare("PRAGMA quick_check(1)").get() ?? {})[0];
    if (found !== "ok") throw damaged(path, String(found));
  }

  #make(random: () => bigint): void {
    this.begin();
    this.#set(`application_id = ${applicationId}`);
    for (const statement of schema.split(";\n").filter((text) => text.trim() !== "")) this.#do(statement);
    const first = { clusterId: random(), memberId: random(), revision: 1n, compacted: -1n };
    for (const [name, value] of Object.entries(first)) this.#run("INSERT INTO number VALUES (?, ?)", name, value);
    this.#set(`user_version = ${schemaVersion}`);
    this.#do("COMMIT");
  }

  numbers(): Numbers {
    const rows = this.#all("SELECT name, value FROM number") as unknown as { name: keyof Numbers; value: bigint }[];
    return Object.fromEntries(rows.map((r) => [r.name, r.value])) as unknown as Numbers;
  }

  begin(): void {
    this.#do("BEGIN IMMEDIATE");
  }

  commit({ revision, compacted }: Numbers): void {
    this.#run("UPDATE number SET value = ? WHERE name = 'revision' AND value <> ?", revision, revision);
    this.#run("UPDATE number SET value = ? WHERE name = 'compacted' AND value <> ?", compacted, compacted);
    this.#do("COMMIT");
  }

  rollback(): void {
    if (this.#db.isTransaction) this.#do("ROLLBACK"); // some errors roll back by themselves
  }

  live(keys: Keys, limit: bigint): KeyValue[] {
    const { where, args } = within(keys, "live.key");
    const sql =
      `SELECT ${columns} FROM live JOIN event ON event.id = live.event WHERE ${where} ORDER BY live.key LIMIT ?`;
    return this.#all(sql, ...args, limit).map((row) => changeOf(row as unknown as EventRow).kv);
  }

  countLive(keys: Keys): bigint {
    const { where, args } = within(keys, "key");
    return this.#number(`SELECT count(*) AS n FROM live WHERE ${where}`, ...args);
  }

  at(keys: Keys, revision: bigint, limit: bigint): KeyValue[] {
    const { where, args } = within(keys, "key");
    // SQLite takes the other columns from the row that has the maximum (sqlite.org/lang_select.html, bare columns).
    const sql = `SELECT max(event.id) AS id, ${columns.replace("event.id AS id, ", "")} FROM event
      WHERE ${where} AND id < ? GROUP BY key HAVING created > 0 ORDER BY key LIMIT ?`;
    return this.#all(sql, ...args, revision + 1n << placeBits, limit)
      .map((row) => changeOf(row as unknown as EventRow).kv);
  }

  countAt(keys: Keys, revision: bigint): bigint {
    const { where, args } = within(keys, "key");
    const newest = `SELECT max(id), created FROM event WHERE ${where} AND id < ? GROUP BY key HAVING created > 0`;
    return this.#number(`SELECT count(*) AS n FROM (${newest})`, ...args, revision + 1n << placeBits);
  }

  history(keys: Keys, from: bigint, to: bigint, limit: bigint): Change[] {
    const { where, args } = within(keys, "+key"); // "+": by id, not by the index of keys
    const sql = `SELECT ${columns} FROM event WHERE id >= ? AND id < ? AND ${where} ORDER BY id LIMIT ?`;
    const begin = from < 0n ? 0n : from << placeBits;
    return this.#all(sql, begin, to + 1n << placeBits, ...args, limit)
      .map((row) => changeOf(row as unknown as EventRow));
  }

  add({ deleted, kv }: Change, place: number): void {
    if (place >= 1 << Number(placeBits)) throw new Error("more than 2^24 changes in one revision");
    const id = kv.mod_revision << placeBits | BigInt(place);
    const value = deleted ? null : kv.value;
    this.#run(
      "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
      id,
      kv.key,
      kv.create_revision,
      kv.version,
      kv.lease,
      value,
    );
    if (deleted) this.#run("DELETE FROM live WHERE key = ?", kv.key);
    else this.#run("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", kv.key, id, kv.lease);
  }

  compact(revision: bigint): bigint {
    const end = revision + 1n << placeBits;
    // Of what is older than the revision's end, each key's newest change stays, unless it is a delete.
    const sql = `DELETE FROM event WHERE id < ?1 AND (created = 0 OR EXISTS
      (SELECT 1 FROM event AS newer WHERE newer.key = event.key AND newer.id > event.id AND newer.id < ?1))`;
    return BigInt(this.#run(sql, end).changes);
  }

  leases(): { id: bigint; ttlS: bigint }[] {
    return this.#all("SELECT id, ttl AS ttlS FROM lease") as unknown as { id: bigint; ttlS: bigint }[];
  }

  leasedKeys(): { key: Uint8Array; lease: bigint }[] {
    return this.#all("SELECT key, lease FROM live WHERE lease <> 0") as unknown as { key: Uint8Array; lease: bigint }[];
  }

  addLease(id: bigint, ttlS: bigint): void {
    this.#run("INSERT INTO lease VALUES (?, ?)", id, ttlS);
  }

  removeLease(id: bigint): void {
    this.#run("DELETE FROM lease WHERE id = ?", id);
  }

  size(): { bytes: bigint; used: bigint } {
    const page = this.#pragma("page_size"), pages = this.#pragma("page_count");
    return { bytes: pages * page, used: (pages - this.#pragma("freelist_count")) * page };
  }

  shrink(): void {
    this.#set("incremental_vacuum", "wal_checkpoint(TRUNCATE)");
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }

  /** One statement, not kept. node:sqlite's exec() (Deno 2.6 to 2.9) does not tell SQLite's result code when it fails. */
  #do(sql: string): void {
    this.#db.prepare(sql).all();
  }

  #set(...pragmas: string[]): void {
    for (const pragma of pragmas) this.#do(`PRAGMA ${pragma}`);
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      statement.setReadBigInts(true);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #all(sql: string, ...args: Argument[]) {
    return this.#statement(sql).all(...args);
  }

  #run(sql: string, ...args: Argument[]) {
    return this.#statement(sql).run(...args);
  }

  #number(sql: string, ...args: Argument[]): bigint {
    return (this.#statement(sql).get(...args) as { n: bigint }).n;
  }

  #pragma(name: string): bigint {
    return BigInt(Object.values(this.#db.prepare(`PRAGMA ${name}`).get() ?? {})[0] as number);
  }
}

type Argument = bigint | string | Uint8Array | null;

interface EventRow {
  id: bigint;
  key: Uint8Array;
  created: bigint;
  version: bigint;
  lease: bigint;
  value: Uint8Array | null;
}

const columns = "event.id AS id, event.key AS key, created, version, event.lease AS lease, value";

const nothing = new Uint8Array(0);

const changeOf = (row: EventRow): Change => ({
  deleted: row.created === 0n,
  kv: {
    key: row.key,
    create_revision: row.created,
    mod_revision: row.id >> placeBits,
    version: row.version,
    value: row.value ?? nothing,
    lease: row.lease,
  },
});

/** The condition that `column` is one of `keys`. */
function within({ start, end }: Keys, column: string): { where: string; args: Uint8Array[] } {
  if (end.length === 0) return { where: `${column} = ?`, args: [start] };
  if (isOpenEnd(end)) return { where: `${column} >= ?`, args: [start] };
  return { where: `${column} >= ? AND ${column} < ?`, args: [start, end] };
}
