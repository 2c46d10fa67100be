import type { Metrics } from "./metrics.ts";

/** Clock ticks of /proc in a second: always 100 on Linux. */
const ticksPerS = 100;
const pageBytes = 4096;

/** Metrics of this process under Prometheus' usual names, read when they are asked for. */
export class ProcessMetrics {
  /** PrometheusProcessMetricsEnabled. */
  enabled = true;
  #cpuS = 0;

  constructor(metrics: Metrics, startMs: number) {
    metrics.onCollect(() => {
      if (this.enabled) this.#collect(metrics, startMs / 1000);
    });
  }

  #collect(metrics: Metrics, startS: number): void {
    const { rss } = Deno.memoryUsage();
    metrics.set("process_resident_memory_bytes", rss);
    metrics.set("process_start_time_seconds", startS);
    // proc(5): after the name in parentheses the third field follows.
    const stat = readText("/proc/self/stat"), fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const cpuS = (Number(fields[11]) + Number(fields[12])) / ticksPerS;
    if (cpuS >= this.#cpuS) metrics.add("process_cpu_seconds_total", cpuS - this.#cpuS);
    this.#cpuS = cpuS;
    metrics.set("process_virtual_memory_bytes", Number(readText("/proc/self/statm").split(" ")[0]) * pageBytes);
    metrics.set("process_open_fds", [...Deno.readDirSync("/proc/self/fd")].length);
    const most = /^Max open files\s+(\d+)/m.exec(readText("/proc/self/limits"));
    if (most) metrics.set("process_max_fds", Number(most[1]));
  }
}

const readText = (path: string): string => Deno.readTextFileSync(path);
