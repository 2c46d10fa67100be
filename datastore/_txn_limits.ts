import { Problem } from "../lib/problem.ts";
import type { Txn } from "./store.ts";

/** etcd's default `--max-txn-ops`: most compares, most writes and most reads of one transaction. */
export const maxTxnOps = 128;

/** etcd's default `--max-request-bytes`, 1.5 MiB. */
export const maxRequestBytes = 1.5 * 1024 * 1024;

/**
 * Refuses a transaction that etcd would refuse, before it is sent, so that every Store refuses the same ones. Sizes are
 * counted in UTF-16 units: text beyond ASCII is larger on the wire, and then the server says so.
 * @throws Problem "bad-input"
 */
export function checkTxn(txn: Txn): void {
  const ops = Math.max(txn.compare.length, txn.write.length, txn.onConflict?.length ?? 0);
  if (ops > maxTxnOps) {
    throw refused(`transaction of ${ops} operations, etcd takes ${maxTxnOps}`, "Split it");
  }
  const written = new Set<string>();
  let size = 0;
  for (const w of txn.write) {
    const key = "put" in w ? w.put : w.delete;
    if (written.has(key)) throw refused("transaction writes a key twice", "Put each key once", key);
    written.add(key);
    size += key.length + ("put" in w ? w.value.length : 0);
  }
  if (size > maxRequestBytes) {
    throw refused(`transaction of ${size} bytes, etcd takes ${maxRequestBytes}`, "Split it");
  }
}

function refused(what: string, todo: string, where?: string): Problem {
  return new Problem({ code: "bad-input", what, where, todo });
}
