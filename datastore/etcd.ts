import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import type { StoreOptions } from "./options.ts";
import type { Store } from "./store.ts";

/** What the client needs from its process. */
export interface EtcdDeps {
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter; default Math.random. */
  random?: () => number;
}

/** A Store over etcd v3. Connects lazily: an etcd that is away shows at the first call. */
export function openEtcd(_options: StoreOptions, _deps: EtcdDeps): Store {
  throw new Error("not built yet");
}
