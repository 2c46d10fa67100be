/** One BGP session as BIRD tells it. */
export interface Session {
  /** Name of its protocol, as Calico names it: `Mesh_10_0_0_2`. */
  name: string;
  kind: "Mesh" | "Global" | "Node" | "Local_Workload";
  /** Address of the other side. */
  peer: string;
  port?: number;
  /** BIRD's protocol state: `up`, `start`, `down`, … */
  protocolState: string;
  /** `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Established`, `Close`, `Down` or `Passive`. */
  state: string;
  /** When it came into this state, `2026-11-21 15:03:22`, local time. */
  since: string;
  /** What went wrong last, in BIRD's words. */
  lastError?: string;
  /** Routes of this session; known after it was established. */
  routes?: { imported: number; exported: number; preferred: number };
}
