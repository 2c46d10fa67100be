/** A metric as data. `summary` and `histogram` take observations, in the unit of the name. */
interface Definition {
  type: "counter" | "gauge" | "summary" | "histogram";
  help: string;
  labels?: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  buckets?: readonly number[];
}

const wireguardPeer = ["hostname", "public_key", "peer_key", "peer_endpoint"] as const;
const poolAndNode = ["ippool", "node"] as const;
const quick = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Every metric of the program. Those called `felix_…` mean what Felix's of that name mean (type and labels too), so that
 * dashboards made for Calico go on working; what has no counterpart there is called `tortie_…`.
 */
export const metricDefinitions = {
  felix_active_local_endpoints: { type: "gauge", help: "Number of active endpoints on this host." },
  felix_active_local_policies: { type: "gauge", help: "Number of active policies on this host." },
  felix_active_local_selectors: { type: "gauge", help: "Number of active selectors on this host." },
  felix_calc_graph_output_events: { type: "counter", help: "Number of events emitted by the calculation." },
  felix_calc_graph_update_time_seconds: { type: "summary", help: "Seconds to update the calculation for each change." },
  felix_calc_graph_updates_processed: {
    type: "counter",
    help: "Number of datastore updates processed by the calculation.",
    labels: ["type"],
  },
  felix_cluster_num_hosts: { type: "gauge", help: "Total number of hosts in the cluster." },
  felix_cluster_num_host_endpoints: { type: "gauge", help: "Total number of host endpoints cluster-wide." },
  felix_cluster_num_policies: { type: "gauge", help: "Total number of policies in the cluster." },
  felix_cluster_num_profiles: { type: "gauge", help: "Total number of profiles in the cluster." },
  felix_cluster_num_tiers: { type: "gauge", help: "Total number of tiers in the cluster." },
  felix_cluster_num_workload_endpoints: { type: "gauge", help: "Total number of workload endpoints cluster-wide." },
  felix_exec_time_micros: { type: "summary", help: "Time taken to start a program, in microseconds." },
  felix_int_dataplane_apply_time_seconds: {
    type: "summary",
    help: "Time to apply one batch to the kernel, in seconds.",
  },
  felix_host: { type: "gauge", help: "Name of this host, as a label.", labels: ["host"] },
  felix_int_dataplane_initial_resync_time_seconds: {
    type: "gauge",
    help: "Time until the kernel was first as wanted, in seconds.",
  },
  felix_int_dataplane_messages: {
    type: "counter",
    help: "Number of changes handed to the dataplane, by Felix's names of them.",
    labels: ["type"],
  },
  felix_int_dataplane_msg_batch_size: { type: "summary", help: "Number of such changes handed on together." },
  felix_int_dataplane_iface_msg_batch_size: {
    type: "summary",
    help: "Number of changes of interfaces that the kernel told together.",
  },
  felix_int_dataplane_addr_msg_batch_size: {
    type: "summary",
    help: "Number of changes of addresses that the kernel told together.",
  },
  felix_int_dataplane_failures: { type: "counter", help: "Number of times that applying failed and will be retried." },
  felix_ipset_calls: { type: "counter", help: "Number of ipset commands executed." },
  felix_ipset_errors: { type: "counter", help: "Number of ipset command failures." },
  felix_ipset_lines_executed: { type: "counter", help: "Number of ipset operations executed." },
  felix_ipsets_calico: { type: "gauge", help: "Number of active IP sets of ours.", labels: ["ip_version"] },
  felix_ipsets_total: { type: "gauge", help: "Number of IP sets of ours in the kernel." },
  felix_iptables_chains: { type: "gauge", help: "Number of active iptables chains.", labels: ["ip_version", "table"] },
  felix_iptables_lines_executed: {
    type: "counter",
    help: "Number of iptables rule updates executed.",
    labels: ["ip_version", "table"],
  },
  felix_iptables_restore_calls: { type: "counter", help: "Number of iptables-restore calls." },
  felix_iptables_restore_errors: { type: "counter", help: "Number of iptables-restore errors." },
  felix_iptables_rules: { type: "gauge", help: "Number of active iptables rules.", labels: ["ip_version", "table"] },
  felix_iptables_save_calls: { type: "counter", help: "Number of iptables-save calls." },
  felix_iptables_save_errors: { type: "counter", help: "Number of iptables-save errors." },
  felix_label_index_num_endpoints: { type: "gauge", help: "Number of endpoints and network sets in the index." },
  felix_label_index_num_active_selectors: {
    type: "gauge",
    help: "Number of active selectors in the index, by whether a label narrows them.",
    labels: ["optimized"],
  },
  felix_label_index_selector_evals: {
    type: "counter",
    help: "Number of times that a selector was compared with an object, by whether it matched.",
    labels: ["result"],
  },
  felix_label_index_strategy_evals: {
    type: "counter",
    help: "Number of times that a new selector looked for its objects, by the way it took.",
    labels: ["strategy"],
  },
  felix_log_errors: { type: "counter", help: "Number of log lines that could not be written." },
  felix_logs_dropped: { type: "counter", help: "Number of log lines dropped because nobody takes them." },
  felix_resync_state: { type: "gauge", help: "Current datastore state: 1 wait, 2 resync, 3 in sync." },
  felix_resyncs_started: { type: "counter", help: "Number of times the datastore was listed." },
  felix_route_table_num_ifaces: {
    type: "gauge",
    help: "Number of interfaces of endpoints with routes in a table.",
    labels: ["table"],
  },
  felix_route_table_resync_seconds: { type: "summary", help: "Time taken to list all routes of a table." },
  felix_route_table_num_routes: { type: "gauge", help: "Number of routes of ours in a table.", labels: ["table"] },
  tortie_cni_requests_total: { type: "counter", help: "CNI calls by verb and outcome.", labels: ["verb", "code"] },
  tortie_cni_request_seconds: { type: "histogram", help: "Time of a CNI call.", labels: ["verb"], buckets: quick },
  tortie_etcd_requests_total: { type: "counter", help: "Requests to the datastore by kind.", labels: ["kind"] },
  tortie_datastore_connected: { type: "gauge", help: "1 while the watch of the datastore stands." },
  tortie_objects_refused: { type: "gauge", help: "Objects that are not in force as they were asked for." },
  tortie_object_refused: {
    type: "gauge",
    help: "1 for each of the first 50 of them, by name.",
    labels: ["object", "reason"],
  },
  tortie_not_in_sync: {
    type: "gauge",
    help: "Objects of a port that differ from what they should be.",
    labels: ["port"],
  },
  tortie_journal_entries: { type: "gauge", help: "Deletes that the datastore has not seen yet." },
  tortie_bgp_peers: { type: "gauge", help: "BGP sessions by state.", labels: ["state"] },
  tortie_bird_configurations_total: {
    type: "counter",
    help: "Configurations given to BIRD: configured, started with one, refused.",
    labels: ["outcome"],
  },
  tortie_part_restarts_total: {
    type: "counter",
    help: "Restarts of a part of the process after a failure.",
    labels: ["part"],
  },
  ipam_allocations_in_use: {
    type: "gauge",
    help: "IPs currently allocated in IPAM to a workload or tunnel endpoint.",
    labels: poolAndNode,
  },
  ipam_allocations_borrowed: {
    type: "gauge",
    help: "IPs currently allocated in IPAM from a block of another node.",
    labels: poolAndNode,
  },
  ipam_allocations_gc_candidates: {
    type: "gauge",
    help: "Allocations that look unused and may be reclaimed.",
    labels: poolAndNode,
  },
  ipam_allocations_gc_reclamations: {
    type: "counter",
    help: "Allocations that were reclaimed because nobody used them.",
    labels: poolAndNode,
  },
  ipam_blocks: { type: "gauge", help: "IPAM blocks currently allocated for the IP pool.", labels: poolAndNode },
  ipam_ippool_size: { type: "gauge", help: "Total number of addresses in the IP Pool.", labels: ["ippool"] },
  ipam_ippool_reserved: { type: "gauge", help: "Addresses in the IP Pool that are reserved.", labels: ["ippool"] },
  ipam_allocations_per_node: { type: "gauge", help: "Number of IPs allocated.", labels: ["node"] },
  ipam_allocations_borrowed_per_node: {
    type: "gauge",
    help: "Number of allocated IPs that are from non-affine blocks.",
    labels: ["node"],
  },
  ipam_blocks_per_node: { type: "gauge", help: "Number of blocks in IPAM.", labels: ["node"] },
  tortie_controller_writes_total: {
    type: "counter",
    help: "Objects that a controller had to write.",
    labels: ["controller"],
  },
  tortie_controller_waiting: {
    type: "gauge",
    help: "Objects that a controller has not looked at.",
    labels: ["controller"],
  },
  tortie_controller_failing: {
    type: "gauge",
    help: "Objects that a controller cannot bring in order now.",
    labels: ["controller"],
  },
  tortie_controllers_working: { type: "gauge", help: "1 while this instance holds the lock." },
  tortie_kubernetes_connected: {
    type: "gauge",
    help: "1 while a collection of Kubernetes is followed.",
    labels: ["resource"],
  },
  tortie_kubernetes_events_total: { type: "counter", help: "Events of watches.", labels: ["resource"] },
  tortie_kubernetes_lists_total: { type: "counter", help: "Lists that were read.", labels: ["resource"] },
  tortie_kubernetes_silence_seconds: {
    type: "gauge",
    help: "Seconds since the API server said anything about a collection.",
    labels: ["resource"],
  },
  tortie_kubernetes_watches_total: { type: "counter", help: "Watches that were begun.", labels: ["resource"] },
  wireguard_meta: {
    type: "gauge",
    help: "WireGuard devices of this host.",
    labels: ["hostname", "public_key", "iface", "listen_port"],
  },
  wireguard_bytes_rcvd: { type: "counter", help: "Bytes that came from a WireGuard peer.", labels: wireguardPeer },
  wireguard_bytes_sent: { type: "counter", help: "Bytes that went to a WireGuard peer.", labels: wireguardPeer },
  wireguard_latest_handshake_seconds: {
    type: "gauge",
    help: "Unix time of the last handshake with a WireGuard peer.",
    labels: wireguardPeer,
  },
  process_resident_memory_bytes: { type: "gauge", help: "Resident memory size in bytes." },
  process_cpu_seconds_total: { type: "counter", help: "Total user and system CPU time spent in seconds." },
  process_virtual_memory_bytes: { type: "gauge", help: "Virtual memory size in bytes." },
  process_open_fds: { type: "gauge", help: "Number of open file descriptors." },
  process_max_fds: { type: "gauge", help: "Maximum number of open file descriptors." },
  process_start_time_seconds: { type: "gauge", help: "Start time of the process since unix epoch in seconds." },
} as const satisfies Record<string, Definition>;

/** Names of metrics. */
export type MetricName = keyof typeof metricDefinitions;
type OfType<T> = { [N in MetricName]: typeof metricDefinitions[N]["type"] extends T ? N : never }[MetricName];
/** Values of a metric's labels by name; exactly those that its definition names. */
export type Labels = Record<string, string>;

/** The metrics of one process. */
export interface Metrics {
  /** Adds to a counter. */
  add(name: OfType<"counter">, by?: number, labels?: Labels): void;
  /** Sets a gauge. */
  set(name: OfType<"gauge">, value: number, labels?: Labels): void;
  /** Records one observation. */
  observe(name: OfType<"summary" | "histogram">, value: number, labels?: Labels): void;
  /** Forgets all label values of a gauge, before it is set anew, or of a counter that another keeps. */
  clear(name: OfType<"gauge" | "counter">): void;
  /** Prometheus' text format; `collect` callbacks are run first. */
  text(): Promise<string>;
  /** Called at each text(): sets gauges that are cheaper to ask for than to keep. */
  onCollect(collect: () => void): void;
}

/** Metrics that are dropped; for tests and for callers that have none. */
export const noMetrics: Metrics = {
  add() {},
  set() {},
  observe() {},
  clear() {},
  text: () => Promise.resolve(""),
  onCollect() {},
};

/** Of which program metrics are: the agent, or the controllers. */
export type Program = "node" | "controllers";

const ofControllers = /^(ipam|tortie_controllers?|tortie_kubernetes)_/;
const ofBoth = /^(process_|tortie_etcd_requests_total$|tortie_datastore_connected$)/;

/** New metrics of a program, all at zero. Loads prom-client (about 60 ms) only now. */
export async function createMetrics(program: Program = "node"): Promise<Metrics> {
  const prom = await import("./_prometheus.ts");
  const registry = new prom.Registry();
  const made = new Map<string, unknown>();
  for (const [name, definition] of Object.entries<Definition>(metricDefinitions)) {
    if (!ofBoth.test(name) && ofControllers.test(name) !== (program === "controllers")) continue;
    const { help, labels = [], buckets } = definition;
    const parts = { name, help, labelNames: [...labels], registers: [registry] };
    made.set(
      name,
      definition.type === "counter"
        ? new prom.Counter(parts)
        : definition.type === "gauge"
        ? new prom.Gauge(parts)
        : definition.type === "summary"
        ? new prom.Summary({ ...parts, maxAgeSeconds: 600, ageBuckets: 5 })
        : new prom.Histogram({ ...parts, ...(buckets && { buckets: [...buckets] }) }),
    );
  }
  const of = <T>(name: MetricName) => made.get(name) as T;
  const collectors: (() => void)[] = [];
  return {
    add: (name, by = 1, labels = {}) => of<InstanceType<typeof prom.Counter>>(name).inc(labels, by),
    set: (name, value, labels = {}) => of<InstanceType<typeof prom.Gauge>>(name).set(labels, value),
    observe: (name, value, labels = {}) => of<InstanceType<typeof prom.Summary>>(name).observe(labels, value),
    clear: (name) => of<InstanceType<typeof prom.Gauge>>(name).reset(),
    onCollect: (collect) => void collectors.push(collect),
    text() {
      for (const collect of collectors) collect();
      return registry.metrics();
    },
  };
}
