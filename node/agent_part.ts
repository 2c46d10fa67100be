import { formatMac } from "../lib/ip.ts";
import { runAgent } from "../agent/agent.ts";
import { calicoMtuFile, Dataplane } from "../agent/dataplane/apply.ts";
import { Journal } from "../agent/endpoints/journal.ts";
import { type AddStep, addSteps, Lifecycle } from "../agent/endpoints/lifecycle.ts";
import { Wiring } from "../agent/endpoints/wiring.ts";
import { serveCni } from "../cni/server.ts";
import { Allocator } from "../ipam/commit.ts";
import { birdRuns } from "./routing_part.ts";
import type { Shared } from "./node.ts";

/** A running agent. */
export interface AgentPart {
  loops: Promise<void>[];
  /** Resolves when the kernel first has everything that the datastore asks for. */
  ready: Promise<void>;
}

/** Interfaces, addresses and routes of this node's endpoints, and the server for CNI calls. */
export async function startAgent(shared: Shared, cleanup: AsyncDisposableStack): Promise<AgentPart> {
  const { settings, mirror, store, node, clock, health, signal, stateDir, runDir } = shared;
  const log = shared.log.child("agent");
  const dataplane = cleanup.use(
    Dataplane.start({ clock, random: Math.random, log: log.child("dataplane"), health, mtuFile: calicoMtuFile }),
  );
  const wiring = cleanup.use(new Wiring());
  const allocator = cleanup.use(
    new Allocator({ store, reader: () => mirror, clock, random: Math.random, log: log.child("ipam") }),
  );
  const journal = new Journal(`${stateDir}/pending-del`);
  const lifecycle = new Lifecycle({
    ...{ node, store, mirror, allocator, wiring, dataplane, journal, clock, random, step: dieAt() },
    log: log.child("endpoints"),
  });
  await lifecycle.recover();
  cleanup.use(await serveCni({ path: `${runDir}/agent.sock`, node, lifecycle, clock, log: log.child("cni") }));
  const agent = runAgent({
    ...{ mirror, dataplane, node, log, health, signal },
    birdRuns: birdRuns(settings),
    env: (name) => settings.get(name),
  });
  return { loops: [agent, lifecycle.run(signal)], ready: inSync(shared, dataplane) };
}

/** Random values of new endpoints. */
const random = {
  uuid: () => crypto.randomUUID() as string,
  mac() {
    const bytes = crypto.getRandomValues(new Uint8Array(6));
    // Locally administered, unicast (IEEE 802).
    bytes[0] = (bytes[0]! & 0xfe) | 0x02;
    return formatMac(bytes);
  },
};

async function inSync({ clock, signal }: Shared, dataplane: Dataplane): Promise<void> {
  while (!signal.aborted && !dataplane.status().inSync) await clock.sleep(50, signal).catch(() => {});
}

/**
 * For tests of crashes: TORTIE_TEST_DIE_AT=<step of an ADD> kills this process when an ADD has come so far, as kill -9
 * would. Nothing but the environment can set it.
 */
function dieAt(): ((step: AddStep) => void) | undefined {
  const at = Deno.env.get("TORTIE_TEST_DIE_AT");
  if (!addSteps.some((step) => step === at)) return undefined;
  return (step) => {
    if (step === at) Deno.kill(Deno.pid, "SIGKILL");
  };
}
