/** prom-client, imported dynamically by metrics.ts; not the package itself, see yaml.ts. */
export { Counter, Gauge, Histogram, Registry, Summary } from "prom-client";
