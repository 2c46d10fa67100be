import { tryParseCidrOrIp } from "../lib/ip.ts";
import type { MetricName, Metrics } from "../lib/metrics.ts";
import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { reservationPrefix } from "../datastore/keys.ts";
import type { IPReservation } from "../datastore/kinds/ip_reservation.ts";
import type { ReflectorState } from "../datastore/kubernetes/reflector.ts";
import type { Mirror } from "../datastore/mirror.ts";
import type { Store } from "../datastore/store.ts";
import { viewOf } from "../ipam/view.ts";
import type { Collector } from "./addresses/collector.ts";
import { addressSamples, perNode, type PerPoolAndNode } from "./addresses/samples.ts";
import type { Member } from "./crew.ts";

/** What metrics are taken from. */
export interface Measured {
  members: Member[];
  followed: { source: { name: string }; reflector: { state(): ReflectorState } }[];
  mirror: Mirror;
  collector: Collector | undefined;
}

/** Gauges by pool and node, and the older ones by node alone. */
type PoolGauge = Extract<
  MetricName,
  "ipam_allocations_in_use" | "ipam_allocations_borrowed" | "ipam_blocks" | "ipam_allocations_gc_candidates"
>;
type NodeGauge = Extract<MetricName, `ipam_${string}_per_node`>;

/** Sets all metrics when somebody asks for them; nothing is counted meanwhile. */
export class ControllerMetrics {
  /** The crew that runs now. */
  measured: Measured | undefined;
  /** This instance holds the lock. */
  working = false;

  constructor(private readonly metrics: Metrics, store: Store, nowMs: () => number) {
    metrics.onCollect(() => {
      metrics.set("tortie_controllers_working", this.working ? 1 : 0);
      metrics.clear("tortie_etcd_requests_total");
      for (const [kind, n] of Object.entries(store.requests)) metrics.add("tortie_etcd_requests_total", n, { kind });
      if (!this.measured) return;
      this.#controllers(this.measured);
      this.#kubernetes(this.measured, nowMs());
      if (this.measured.collector) this.#addresses(this.measured.mirror, this.measured.collector);
    });
  }

  #controllers({ members, mirror }: Measured): void {
    const { metrics } = this;
    metrics.set("tortie_datastore_connected", mirror.state().connected ? 1 : 0);
    metrics.clear("tortie_controller_writes_total");
    for (const { follower: { name: controller }, worker } of members) {
      metrics.add("tortie_controller_writes_total", worker.written, { controller });
      metrics.set("tortie_controller_waiting", worker.waiting, { controller });
      metrics.set("tortie_controller_failing", worker.failing().size, { controller });
    }
  }

  #kubernetes({ followed }: Measured, nowMs: number): void {
    const { metrics } = this;
    const counters = {
      tortie_kubernetes_events_total: "events",
      tortie_kubernetes_lists_total: "lists",
      tortie_kubernetes_watches_total: "watches",
    } as const;
    for (const name of Object.keys(counters) as (keyof typeof counters)[]) metrics.clear(name);
    for (const { source: { name: resource }, reflector } of followed) {
      const state = reflector.state();
      for (const [name, member] of Object.entries(counters) as [keyof typeof counters, "events"][]) {
        metrics.add(name, state[member], { resource });
      }
      metrics.set("tortie_kubernetes_connected", state.connected ? 1 : 0, { resource });
      metrics.set("tortie_kubernetes_silence_seconds", Math.round(nowMs - state.heardMs) / 1000, { resource });
    }
  }

  #addresses(mirror: Mirror, collector: Collector): void {
    const { metrics } = this;
    const samples = addressSamples(viewOf(mirror), collector.nodeNames(), reservedIn(mirror), collector.findings);
    this.#perPool("ipam_allocations_in_use", samples.inUse);
    this.#perPool("ipam_allocations_borrowed", samples.borrowed);
    this.#perPool("ipam_allocations_gc_candidates", samples.candidates);
    this.#perPool("ipam_blocks", samples.blocks);
    this.#perNode("ipam_allocations_per_node", samples.inUse);
    this.#perNode("ipam_allocations_borrowed_per_node", samples.borrowed);
    this.#perNode("ipam_blocks_per_node", samples.blocks);
    metrics.clear("ipam_ippool_size");
    metrics.clear("ipam_ippool_reserved");
    for (const [ippool, { size, reserved }] of samples.sizes) {
      metrics.set("ipam_ippool_size", size, { ippool });
      metrics.set("ipam_ippool_reserved", reserved, { ippool });
    }
    metrics.clear("ipam_allocations_gc_reclamations");
    for (const [ippool, nodes] of collector.reclaimed) {
      for (const [node, n] of nodes) metrics.add("ipam_allocations_gc_reclamations", n, { ippool, node });
    }
  }

  #perPool(name: PoolGauge, numbers: PerPoolAndNode): void {
    this.metrics.clear(name);
    for (const [ippool, nodes] of numbers) for (const [node, n] of nodes) this.metrics.set(name, n, { ippool, node });
  }

  #perNode(name: NodeGauge, numbers: PerPoolAndNode): void {
    this.metrics.clear(name);
    for (const [node, n] of perNode(numbers)) if (n > 0) this.metrics.set(name, n, { node });
  }
}

function reservedIn(mirror: Mirror) {
  return mirror.list(reservationPrefix).flatMap((kv) => {
    const read = decodeResource(kv);
    const texts = !read || isUndecodable(read) ? [] : (read as IPReservation).spec.reservedCIDRs ?? [];
    return texts.flatMap((text) => tryParseCidrOrIp(text) ?? []);
  });
}
