import { systemClock } from "../lib/clock.ts";
import { createLog, parseLevel } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { aborted, flagPairs, runService } from "../lib/service.ts";
import { startStore } from "./server.ts";

const usage = `usage: tortie store [--file FILE] [--socket PATH] [--listen PORT] [--keep REVISIONS]

The datastore of one host without etcd: etcd's v3 API over one SQLite file. etcdctl, tortie and Calico's tools work with it.

  --file FILE        where the data lies          (default /var/lib/tortie/store.db)
  --socket PATH      unix socket, root only       (default /run/tortie/store.sock)
  --listen PORT      also on 127.0.0.1; everybody on this host can then read and write all of it
  --keep REVISIONS   how many old revisions stay readable (default 10000)

Look:  ETCDCTL_API=3 etcdctl --endpoints unix:///run/tortie/store.sock get --prefix /calico/
For more than one host use etcd: copy everything with \`tortie ctl datastore migrate\`.
`;

/** What `tortie store` was told. */
export interface StoreArguments {
  file: string;
  socket: string;
  port?: number;
  keepRevisions?: bigint;
}

/** Reads the arguments. @throws Problem "bad-input". */
export function storeArguments(args: string[]): StoreArguments {
  const told: StoreArguments = { file: "/var/lib/tortie/store.db", socket: "/run/tortie/store.sock" };
  for (const [flag, value] of flagPairs(args, "tortie store --help")) {
    if (flag === "--file") told.file = value;
    else if (flag === "--socket") told.socket = value;
    else if (flag === "--listen") told.port = number(flag, value, 65_535);
    else if (flag === "--keep") told.keepRevisions = BigInt(number(flag, value, Number.MAX_SAFE_INTEGER));
    else throw new Problem({ code: "bad-input", what: `unknown argument "${flag}"`, todo: "See tortie store --help" });
  }
  return told;
}

function number(flag: string, text: string, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value <= most) return value;
  throw new Problem({ code: "bad-input", what: `${flag} is "${text}", not a number from 0 to ${most}` });
}

/** `tortie store`: runs until it is told to stop, or its file cannot be used. */
export async function main(args: string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(usage.trimEnd());
    return 0;
  }
  const log = createLog("store", {
    level: parseLevel(Deno.env.get("LOG_LEVEL") ?? "info") ?? "info",
    clock: systemClock,
  });
  return await runService(log, async (signal) => {
    await using store = await startStore({ ...storeArguments(args), clock: systemClock, log });
    await Promise.race([aborted(signal), store.over]);
  });
}
