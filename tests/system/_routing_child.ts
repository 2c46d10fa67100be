import { openEtcd } from "../../datastore/etcd.ts";
import { Mirror } from "../../datastore/mirror.ts";
import { systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { createLog } from "../../lib/log.ts";
import { runRouting } from "../../routing/routing.ts";

// Routing of one host as a process of its own, to be killed: `deno run _routing_child.ts ENDPOINT NODE PATHS-AS-JSON`.
const [endpoint, node, paths] = Deno.args as [string, string, string];
const clock = systemClock;
const log = createLog("routing");
const store = openEtcd({ endpoints: [endpoint], deadlineMs: 5_000 }, { clock, log });
const mirror = Mirror.start({ store, clock, log });
const signal = new AbortController().signal;
const routing = runRouting({
  ...{ mirror, node, paths: JSON.parse(paths), clock, log, health: new Health(), env: () => undefined, signal },
});
await routing.done;
