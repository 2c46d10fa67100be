import type { Check } from "../check.ts";
import { agentChecks } from "./agent.ts";
import { bgpChecks } from "./bgp.ts";
import { cniChecks } from "./cni.ts";
import { datastoreChecks } from "./datastore.ts";
import { firewallChecks } from "./firewall.ts";
import { hostChecks } from "./host.ts";
import { ipamChecks } from "./ipam.ts";
import { nodeChecks } from "./nodes.ts";
import { policyChecks } from "./policy.ts";
import { routeChecks } from "./routes.ts";

/** All checks; what explains others stands before them. */
export const checks: readonly Check[] = [
  ...datastoreChecks,
  ...nodeChecks,
  ...agentChecks,
  ...bgpChecks,
  ...hostChecks,
  ...firewallChecks,
  ...routeChecks,
  ...ipamChecks,
  ...policyChecks,
  ...cniChecks,
];
