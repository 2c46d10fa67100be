import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import type { Api } from "../datastore/kubernetes/reflector.ts";
import type { Mirror } from "../datastore/mirror.ts";
import type { Resources } from "../datastore/resources.ts";
import type { Allocator } from "../ipam/commit.ts";
import { Balancer } from "./addresses/balancer.ts";
import { Collector } from "./addresses/collector.ts";
import { Complaints } from "./complaints.ts";
import type { LiveSettings } from "./live_settings.ts";
import type { ControllerName } from "./settings.ts";
import { configurationSync } from "./syncs/configuration.ts";
import { hostEndpointSync } from "./syncs/host_endpoints.ts";
import { nodeSync } from "./syncs/nodes.ts";
import { podSync } from "./syncs/pods.ts";
import { adminPolicySync, baselinePolicySync, clusterPolicySync, policySync } from "./syncs/policies.ts";
import { namespaceSync, serviceAccountSync } from "./syncs/profiles.ts";
import { serviceSliceSync } from "./syncs/service_slices.ts";
import { removeStaleNode } from "./syncs/stale_nodes.ts";
import type { Follower, Sync } from "./syncs/sync.ts";
import { Writer } from "./syncs/writer.ts";
import { type Act, Worker } from "./worker.ts";

/** What follows, and who works for it. */
export interface Member {
  follower: Follower;
  worker: Worker;
}

/** What members work with. */
export interface CrewParts {
  mirror: Mirror;
  resources: Resources;
  allocator: Allocator;
  /** For single questions and writes. */
  api: Api;
  live: LiveSettings;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/** What a controller consists of, as ENABLED_CONTROLLERS calls it, where etcd's objects are all there is to it. */
const syncs: Record<ControllerName, () => Sync[]> = {
  policy: () => [policySync(), clusterPolicySync(), adminPolicySync(), baselinePolicySync(), serviceSliceSync()],
  namespace: () => [namespaceSync()],
  serviceaccount: () => [serviceAccountSync()],
  workloadendpoint: () => [podSync()],
  node: () => [nodeSync(), hostEndpointSync()],
  loadbalancer: () => [],
};

/** All members of the controllers that are on, and the collector when it is among them. */
export function crewOf(enabled: ControllerName[], parts: CrewParts): { members: Member[]; collector?: Collector } {
  const { live, clock, log, mirror, allocator, api } = parts;
  const all = [configurationSync(live.env), ...enabled.flatMap((name) => syncs[name]())];
  const members = all.map((sync) => memberOf(sync, parts));
  const own = (name: string) => ({ mirror, allocator, api, clock, log: log.child(name) });
  const add = (follower: Follower & { act: Act }): void => {
    const act: Act = (key, signal) => follower.act(key, signal);
    members.push({ follower, worker: workerOf(follower.name, act, parts) });
  };
  if (enabled.includes("loadbalancer")) {
    const complaints = new Complaints({ api, clock, log: log.child("loadbalancer") });
    add(new Balancer({ ...own("loadbalancer"), tell: (key, trouble) => complaints.tell(key, trouble) }));
  }
  if (!enabled.includes("node")) return { members };
  const collector = new Collector(own("addresses"));
  add(collector);
  return { members, collector };
}

function memberOf(sync: Sync, parts: CrewParts): Member {
  const { mirror, resources, api, clock, random } = parts;
  const log = parts.log.child(sync.name);
  const complaints = new Complaints({ api, clock, log });
  const writer = new Writer({
    ...{ sync, mirror, resources, clock, log },
    removeNode: (node) => removeStaleNode({ api, resources, clock, log, random }, node),
    tell: (key, trouble) => complaints.tell(key, trouble),
  });
  return { follower: sync, worker: workerOf(sync.name, (key) => writer.act(key), parts) };
}

const workerOf = (name: string, act: Act, { clock, log, random }: CrewParts): Worker =>
  new Worker({ name, act, clock, log: log.child(name), random });
