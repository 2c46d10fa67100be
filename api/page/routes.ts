import { Hono } from "hono";
import type { ApiParts } from "../parts.ts";
import { addressPage } from "./addresses.ts";
import { bgpPage } from "./bgp.ts";
import { endpointsPage } from "./endpoints.ts";
import { overviewPage } from "./overview.ts";
import { policiesPage } from "./policies.ts";
import { reachPage } from "./reach.ts";
import { style } from "./style.ts";

/** The pages for people: read only, made on the server, without anything from elsewhere. */
export function pageRoutes(parts: ApiParts): Hono {
  const app = new Hono();
  app.get("/", () => overviewPage(parts));
  app.get("/endpoints", () => endpointsPage(parts));
  app.get("/policies", () => policiesPage(parts));
  app.get("/reach", () => reachPage(parts));
  app.get("/ipam", () => addressPage(parts));
  app.get("/bgp", () => bgpPage(parts));
  app.get("/style.css", () => new Response(style, { headers: { "content-type": "text/css" } }));
  return app;
}
