import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import type { KubernetesClients } from "../datastore/kubernetes/client.ts";
import type { Asked, Lifecycle } from "../agent/endpoints/lifecycle.ts";
import type { Attachment } from "../agent/endpoints/attachment.ts";
import type { ClusterCaches } from "./cluster_cache.ts";
import type { NetworkConfig } from "./config.ts";
import type { CniArgs, CniEnvironment, Identifiers } from "./environment.ts";
import type { PluginName } from "./wire.ts";
import type { VersionRow } from "./versions.ts";

/** What the verbs work with. */
export interface CniDeps {
  /** This node's name. */
  node: string;
  lifecycle: Lifecycle;
  kubernetes: KubernetesClients;
  /** What is known of Kubernetes, by client. */
  caches: ClusterCaches;
  clock: Clock;
  log: Logger;
  /** Where calico/node writes the pods' MTU; default /var/lib/calico/mtu. */
  mtuFile?: string;
  /** Where the node's name is written; default /var/lib/calico/nodename. */
  nodeNameFile?: string;
}

/** One call, read and checked. */
export interface Call {
  plugin: PluginName;
  environment: CniEnvironment;
  env: Record<string, string>;
  netns: string;
  config: NetworkConfig;
  form: VersionRow;
  args: CniArgs;
  ids: Identifiers;
  attachment: Attachment;
  /** An ADD as its server heard of it: ends when a DEL comes, or the plugin goes away. */
  asked?: Asked;
  /** Lines for the plugin's stderr: what delegated plugins wrote. */
  stderr: string[];
}

/** Types of `ipam.type` that are ours: no other program is run for them. */
export const isOurIpam = (type: string): boolean => type === "calico-ipam" || type === "tortie-ipam";
