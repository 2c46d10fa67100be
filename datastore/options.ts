import { Problem } from "../lib/problem.ts";

/** Where options come from. `config` = fields of a CNI network config or calicoctl config file; they win over the environment. */
export interface StoreOptionSources {
  env(name: string): string | undefined;
  config?: Record<string, string>;
}

/** How to reach the datastore. Files are paths of PEM files. */
export interface StoreOptions {
  /** `http://host:port` or `https://host:port`, all with the same scheme, at least one. */
  endpoints: string[];
  username?: string;
  password?: string;
  caFile?: string;
  certFile?: string;
  keyFile?: string;
  /** Deadline of a call that names none. */
  deadlineMs: number;
}

/** Decides the client options from environment and config. @throws Problem "bad-input" naming variable or field. */
export function storeOptions(_sources: StoreOptionSources): StoreOptions {
  throw new Problem({ code: "unsupported", what: "not built yet" });
}
