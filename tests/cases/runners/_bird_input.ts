import { resourcePrefix } from "../../../datastore/keys.ts";
import { render } from "../../../routing/bird_config.ts";
import { inputsOf } from "../../../routing/inputs.ts";
import { peersOf } from "../../../routing/peers.ts";
import { Findings, type KubernetesView, type Surroundings } from "../../../routing/resources.ts";
import { Snapshot } from "../../../routing/snapshot.ts";
import { peeringEndpoint } from "../../../routing/surroundings.ts";

/** A route of a case; see the file's shape. */
export interface CaseRoute {
  id: string;
  net: string;
  from: "kernel" | "static" | "device" | "bgp";
  metric?: number;
  localPref?: number;
  ifname?: string;
  nextHop?: string;
  asPath?: number[];
  communities?: string[];
}

/** Input of a case of bird.json; see the file's shape. */
export interface BirdInput {
  node: string;
  env?: Record<string, string>;
  datastore: Record<string, unknown>;
  kubernetes?: Partial<KubernetesView>;
  endpointStatus?: Record<string, unknown>;
  routes?: CaseRoute[];
}

/**
 * The text of BIRD's configuration that we write for a case.
 * @param tolerant false: throws when a stored value is not understood, since then the case would test something else.
 */
export function configurationOf(input: BirdInput, tolerant = false): string {
  const findings = new Findings();
  const snapshot = new Snapshot(input.node);
  const set = Object.entries(input.datastore).map(([key, value]) => ({
    key,
    value: typeof value === "string" ? value : JSON.stringify(value),
    revision: 1n,
    created: 1n,
  }));
  snapshot.update({ set, deleted: [] });
  snapshot.tell(findings);
  const unread = findings.problems.find((p) => p.where?.startsWith(resourcePrefix));
  if (unread && !tolerant) throw unread;
  const around = surroundings(input);
  const speaker = inputsOf(snapshot.resources, around, findings);
  if (!speaker) throw new Error(`no Node ${input.node}`);
  const peers = peersOf(speaker, snapshot.resources.bgpPeers.values(), around.peeringEndpoints, findings);
  return render(speaker, peers, findings);
}

function surroundings({ node, env = {}, kubernetes, endpointStatus = {} }: BirdInput): Surroundings {
  const secrets = kubernetes?.secrets ?? [];
  return {
    node,
    env,
    passwords: new Map(
      secrets.flatMap(({ metadata, data = {} }) =>
        Object.entries(data).map(([key, value]) => [`${metadata.name}/${key}`, atob(value)] as const)
      ),
    ),
    peeringEndpoints: Object.values(endpointStatus).flatMap((e) => peeringEndpoint(JSON.stringify(e)) ?? []),
    kubernetes: kubernetes && { services: [], endpointSlices: [], secrets: [], ...kubernetes },
  };
}
