import { Hono } from "hono";
import { messageOf, Problem } from "../lib/problem.ts";
import { type Bindings, type Caller, guard } from "./access.ts";
import { json } from "./objects.ts";
import { openApi } from "./openapi.ts";
import { pageRoutes } from "./page/routes.ts";
import type { ApiParts } from "./parts.ts";
import { statusOf, statusOfError } from "./problems.ts";
import { basePath, resourceRoutes } from "./resources.ts";

/** What answers a request, given the listener that it came in by. */
export type Answer = (request: Request, from: Bindings) => Promise<Response>;

/** The whole API: resources, their OpenAPI document, health, metrics, and the pages. */
export function buildApp(parts: ApiParts): Answer {
  const app = new Hono<{ Bindings: Bindings; Variables: { caller: Caller } }>();
  const { health } = parts;
  app.use(guard);
  app.get("/healthz", () => json({ live: health.live(), parts: health.parts() }, health.live() ? 200 : 503));
  app.get("/readyz", () => json({ ready: health.ready(), parts: health.parts() }, health.ready() ? 200 : 503));
  app.get("/metrics", async () => {
    return new Response(await parts.metrics(), {
      headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
    });
  });
  app.get("/openapi.json", () => json(openApi()));
  app.route(basePath, resourceRoutes(parts));
  app.route("/", pageRoutes(parts));
  app.notFound((c) =>
    json(statusOf(404, "NotFound", `${c.req.path} does not exist: see /, /openapi.json, ${basePath}`), 404)
  );
  app.onError((error) => {
    if (!(error instanceof Problem)) {
      parts.log.error("request failed by a bug", { why: messageOf(error), stack: error.stack });
    }
    const status = statusOfError(error);
    return json(status, status.code);
  });
  return async (request, from) => await app.fetch(request, from);
}
