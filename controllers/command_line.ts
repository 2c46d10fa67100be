import { Problem } from "../lib/problem.ts";
import { controllers } from "./run.ts";

/** The names in ENABLED_CONTROLLERS; `profile` is Calico's older name. @throws Problem "bad-input" for others. */
export function enabledControllers(text: string | undefined): string[] {
  if (!text) return Object.keys(controllers);
  const names = text.split(",").map((word) => word.trim()).map((word) => (word === "profile" ? "namespace" : word));
  const unknown = names.find((name) => !Object.hasOwn(controllers, name));
  if (unknown === undefined) return [...new Set(names)];
  throw new Problem({
    code: unknown === "loadbalancer" ? "unsupported" : "bad-input",
    what: `there is no controller "${unknown}"`,
    where: "ENABLED_CONTROLLERS",
    todo: `Name some of ${Object.keys(controllers).join(",")}`,
  });
}

/** The port of the arguments, 0 = none; undefined when they are not understood. Source: Calico's flag of that name. */
export function healthPort(args: string[]): number | undefined {
  if (args.length === 0) return 0;
  const port = Number(/^--health-port[ =](\d{1,5})$/.exec(args.join(" "))?.[1] ?? NaN);
  return port <= 65_535 ? port : undefined;
}
