import type { Health } from "../lib/health.ts";

/** The answer to a probe: one line for each part that has something to say. */
export function healthAnswer(path: string, health: Health): Response {
  if (path !== "/readiness" && path !== "/liveness") return new Response("not found\n", { status: 404 });
  const isReadiness = path === "/readiness", isGood = isReadiness ? health.ready() : health.live();
  const lines = health.parts().map(({ name, ready, why }) =>
    `${name}: ${ready ? "ready" : `not ready: ${why ?? ""}`}\n`
  );
  return new Response(lines.join(""), { status: isGood ? 200 : 503 });
}
