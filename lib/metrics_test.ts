import assert from "node:assert/strict";
import { createMetrics, metricDefinitions } from "./metrics.ts";

Deno.test("metrics are printed in Prometheus' format, with Felix's names and zero at the start", async () => {
  const metrics = await createMetrics();
  metrics.add("felix_iptables_restore_calls");
  metrics.add("felix_iptables_restore_calls", 2);
  metrics.set("felix_iptables_rules", 7, { ip_version: "4", table: "filter" });
  metrics.observe("felix_int_dataplane_apply_time_seconds", 0.5);
  metrics.observe("tortie_cni_request_seconds", 0.02, { verb: "ADD" });
  const lines = (await metrics.text()).split("\n");
  for (
    const line of [
      "# TYPE felix_iptables_restore_calls counter",
      "felix_iptables_restore_calls 3",
      'felix_iptables_rules{ip_version="4",table="filter"} 7',
      "felix_int_dataplane_apply_time_seconds_sum 0.5",
      "felix_int_dataplane_apply_time_seconds_count 1",
      'tortie_cni_request_seconds_bucket{le="0.025",verb="ADD"} 1',
      'tortie_cni_request_seconds_bucket{le="0.01",verb="ADD"} 0',
      "felix_active_local_endpoints 0",
    ]
  ) assert.ok(lines.includes(line), `${line} in\n${lines.join("\n")}`);
});

Deno.test("two sets of metrics share nothing", async () => {
  const [a, b] = [await createMetrics(), await createMetrics()];
  a.add("felix_resyncs_started");
  assert.match(await b.text(), /^felix_resyncs_started 0$/m);
});

Deno.test("collectors run at each look, clear() forgets label values", async () => {
  const metrics = await createMetrics();
  let looks = 0;
  metrics.onCollect(() => {
    metrics.clear("tortie_bgp_peers");
    metrics.set("tortie_bgp_peers", 1, { state: looks++ === 0 ? "Idle" : "Established" });
  });
  assert.match(await metrics.text(), /^tortie_bgp_peers\{state="Idle"\} 1$/m);
  const second = await metrics.text();
  assert.match(second, /^tortie_bgp_peers\{state="Established"\} 1$/m);
  assert.doesNotMatch(second, /Idle/);
});

Deno.test("every metric has a name and a help that Prometheus takes", () => {
  for (const [name, { help }] of Object.entries(metricDefinitions)) {
    assert.match(name, /^(felix|ipam|tortie|process|wireguard)_[a-z0-9_]+$/);
    assert.ok(help.endsWith("."), name);
  }
});
