import { kernelFeatures } from "../kernel/features.ts";
import { listRoutes, table } from "../kernel/rtnetlink/route.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { Resources } from "../datastore/resources.ts";
import type { Bird } from "../routing/bird.ts";
import { reportNodeStatus } from "../routing/node_status_report.ts";
import { type Routing, runRouting } from "../routing/routing.ts";
import { networkingBackend } from "./own_node.ts";
import type { Shared } from "./parts.ts";

/** True when this node's routes are distributed by BIRD. */
export const birdRuns = (settings: Shared["settings"]): boolean => networkingBackend(settings) === "bird";

/** BGP, unless the backend says otherwise, and answers about it. @param dataplaneReady nothing is announced before it. */
export function startRouting(shared: Shared, dataplaneReady: Promise<void> | undefined): Promise<void>[] {
  const { settings, mirror, node, clock, health, metrics, signal, runDir } = shared;
  if (!birdRuns(settings)) return [tellStatus(shared, undefined)];
  const routing = runRouting({
    ...{ mirror, node, clock, health, metrics, signal, dataplaneReady },
    log: shared.log.child("routing"),
    env: (name) => settings.get(name),
    paths: { config: `${runDir}/bird.conf`, control: `${runDir}/bird.ctl`, pid: `${runDir}/bird.pid` },
    // Under systemd BIRD has a unit of its own, which outlives ours.
    leftRoutes,
    startedBy: settings.get("TORTIE_BIRD_STARTED_BY") === "systemd" ? "systemd" : "us",
  });
  return [routing.done, tellStatus(shared, routing.bird), tellProblems(shared, routing)];
}

/** What BGP cannot use, among everything else that is not in force: `BGPPeer:tor`. Routing's own log has told it. */
async function tellProblems({ refusals, signal }: Shared, routing: Routing): Promise<void> {
  for await (const problems of routing.problems(signal)) {
    const found = new Map<string, string>();
    for (const { what, where = "BGP" } of problems) {
      const [, kind, name, field] = /^([A-Z]\w+) ([^ ,]+)(?:, (.*))?$/s.exec(where) ?? [];
      const object = kind === undefined ? where : `${kind}:${name}`, why = field ? `${field}: ${what}` : what;
      found.set(object, found.has(object) ? `${found.get(object)}; ${why}` : why);
    }
    refusals.set("routing's inputs", found, "");
  }
}

/** Answers CalicoNodeStatus objects. @param bird undefined = none runs here, which is told as well. */
function tellStatus(shared: Shared, bird: Bird | undefined): Promise<void> {
  const { mirror, store, node, clock, signal } = shared;
  const resources = new Resources(store, { clock });
  return reportNodeStatus({ mirror, resources, node, bird, clock, signal, log: shared.log.child("node status") });
}

/** Number of BIRD's routes in the kernel (RTPROT_BIRD). */
const birdProtocol = 12;

/** Whether this host's kernel has routes of an earlier BIRD. */
function leftRoutes(): boolean {
  using socket = RtSocket.open();
  const families = kernelFeatures().ipv6 ? [4, 6] as const : [4] as const;
  return families.some((family) =>
    listRoutes(socket, { family, table: table.main, protocol: birdProtocol }).some((r) => r.protocol === birdProtocol)
  );
}
