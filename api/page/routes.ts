import { Hono } from "hono";
import type { ApiParts } from "../parts.ts";
import { addressPage } from "./addresses.ts";
import { bgpPage } from "./bgp.ts";
import { dropEvents, dropsPage, dropsScript } from "./drops.ts";
import { endpointsPage } from "./endpoints.ts";
import { overviewPage } from "./overview.ts";
import { policiesPage } from "./policies.ts";
import { reachPage } from "./reach.ts";
import { style } from "./style.ts";

/** The pages for people: read only, made on the server, nothing from elsewhere. Only drops, which are live, have a script. */
export function pageRoutes(parts: ApiParts): Hono {
  const app = new Hono();
  app.get("/", () => overviewPage(parts));
  app.get("/endpoints", () => endpointsPage(parts));
  app.get("/policies", () => policiesPage(parts));
  app.get("/reach", () => reachPage(parts));
  app.get("/ipam", () => addressPage(parts));
  app.get("/bgp", () => bgpPage(parts));
  app.get("/drops", () => dropsPage(parts));
  app.get("/drops/events", (c) => dropEvents(parts, c.req.raw.signal));
  app.get("/drops.js", () => new Response(dropsScript, { headers: { "content-type": "text/javascript" } }));
  app.get("/style.css", () => new Response(style, { headers: { "content-type": "text/css" } }));
  return app;
}
