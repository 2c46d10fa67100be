import type { TableKey } from "./chain.ts";

/**
 * Tells whether somebody else changed a table, without reading it. It makes two things possible: no read before a write,
 * and drift noticed within a fraction of a second at next to no cost. One for all tables of a host.
 */
export interface TableWatch extends Disposable {
  /** Grows whenever others changed the table. Looks at the kernel now; equal answers = nobody did in between. */
  foreign(table: TableKey): number;
  /** A program of ours begins to write the table. */
  begin(table: TableKey, pid: number): void;
  /**
   * It has ended. @param entries by how many the table's entries grew by it; undefined = nothing was written, or it is
   * not known.
   */
  end(table: TableKey, pid: number, entries: number | undefined): void;
  /** Tables that others changed, as it happens. Ends when `signal` is aborted. One loop at a time. */
  changes(signal: AbortSignal): AsyncGenerator<TableKey[]>;
}
