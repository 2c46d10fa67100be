export { ProcessMetrics } from "../lib/process_metrics.ts";
