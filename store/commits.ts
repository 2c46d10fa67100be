import type { Logger } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import { Refusal, refusal, Status } from "./errors.ts";
import type { Model } from "./model.ts";
import type { Change, Numbers } from "./rows.ts";

/** What a commit brought. */
export interface Committed {
  /** The newest revision before and after. */
  before: bigint;
  revision: bigint;
  changes: Change[];
}

/** What commits need. */
export interface CommitParts {
  /** The model as the rows have it on the disk; called at the start and after a transaction that failed. */
  load(): Model;
  /** Puts off work until what has arrived by now is read. */
  defer(work: () => void): void;
  /** Told of each commit with what it changed, when it is on the disk, and of each that failed, without changes. */
  committed(what: Committed): void;
  /** What a storage error means: full (nothing is lost, try later), or fatal (the process must end). */
  kindOf(error: unknown): "full" | "fatal";
  /** The store cannot go on: its file is damaged, or its disk fails. */
  fatal(error: unknown): void;
  log: Logger;
}

interface Waiting {
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Makes requests lasting: those that arrive while the disk is busy share the next commit, and its one fsync. Each answer,
 * also that of a read or a refusal, waits for the commit of what it saw: nobody is told what a crash could undo.
 */
export class Commits {
  readonly #parts: CommitParts;
  #model: Model;
  /** The numbers as of the last commit, while a group is open. */
  #before: Numbers;
  #open = false;
  #waiting: Waiting[] = [];
  #full = false;
  #ended = false;

  constructor(parts: CommitParts) {
    this.#parts = parts;
    this.#model = parts.load();
    this.#before = this.#model.numbers;
  }

  /** True while the last write failed because the disk is full. */
  get full(): boolean {
    return this.#full;
  }

  /** The model as of the last commit: for those that must not see what is not on the disk. Undefined inside of a group. */
  get settled(): Model | undefined {
    return this.#open ? undefined : this.#model;
  }

  /** The numbers as of the last commit. */
  get numbers(): Readonly<Numbers> {
    return this.#open ? this.#before : this.#model.numbers;
  }

  /** Runs a request that only reads. @throws Refusal */
  read<T>(work: (model: Model) => T): Promise<T> {
    return this.#run(work);
  }

  /** Runs a request that may write, and resolves when its writes are on the disk. @throws Refusal */
  write<T>(work: (model: Model) => T): Promise<T> {
    if (!this.#open && !this.#ended) {
      try {
        this.#model.rows.begin();
      } catch (error) {
        return Promise.reject(this.#failed(error));
      }
      this.#before = { ...this.#model.numbers };
      this.#open = true;
      this.#parts.defer(() => this.#commit());
    }
    return this.#run(work);
  }

  /** Commits what is open, and refuses everything from then on. */
  end(): void {
    this.#commit();
    this.#ended = true;
  }

  #run<T>(work: (model: Model) => T): Promise<T> {
    if (this.#ended) return Promise.reject(refusal("stopped"));
    let answer: () => T;
    try {
      const value = work(this.#model);
      answer = () => value;
    } catch (error) {
      if (!(error instanceof Refusal)) return Promise.reject(this.#failed(error));
      answer = () => {
        throw error;
      };
    }
    if (!this.#open) return Promise.resolve().then(answer);
    return new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject })).then(answer);
  }

  #commit(): void {
    if (!this.#open) return;
    const model = this.#model;
    try {
      model.rows.commit(model.numbers);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#open = false;
    if (this.#full) this.#parts.log.info("the disk has room again");
    this.#full = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve();
    this.#parts.committed({
      before: this.#before.revision,
      revision: model.numbers.revision,
      changes: model.takeChanges(),
    });
  }

  /** Undoes the group and tells all who wait. @returns what to tell. */
  #failed(error: unknown): Refusal {
    const kind = this.#parts.kindOf(error);
    const told = kind === "full"
      ? refusal("noSpace")
      : new Refusal(Status.dataLoss, `the store failed: ${messageOf(error)}`);
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#open = false;
    try {
      this.#model.rows.rollback();
      this.#model = this.#parts.load();
    } catch (cause) {
      this.#fail(cause);
    }
    if (kind === "full") {
      this.#full = true;
      this.#parts.log.error("the disk is full: nothing can be written; what was written stays", {
        why: messageOf(error),
      });
    } else this.#fail(error);
    for (const { reject } of waiting) reject(told);
    const { revision } = this.#model.numbers;
    this.#parts.committed({ before: revision, revision, changes: [] });
    return told;
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#parts.fatal(error);
  }
}
