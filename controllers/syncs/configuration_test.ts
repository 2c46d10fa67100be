import { deepEqual, equal } from "node:assert/strict";
import type { Resource } from "../../datastore/kind.ts";
import { configurationKey, configurationSync, specIn } from "./configuration.ts";
import { defaultSpec } from "../settings.ts";

const stored = (resource: Resource, more: Record<string, unknown>): Resource => ({ ...resource, ...more });
const made = (sync: ReturnType<typeof configurationSync>) =>
  (sync.step(configurationKey, undefined) as { resource: Resource }).resource;

Deno.test("a resource that is not there is made with its status, and then left alone", () => {
  const sync = configurationSync(() => undefined), resource = made(sync);
  deepEqual(resource.spec, defaultSpec);
  equal(sync.step(configurationKey, resource).do, "nothing");
});

Deno.test("the status follows the settings, but another who insists on his is not contradicted for ever", () => {
  const sync = configurationSync(() => undefined), resource = made(sync);
  const others = { runningConfig: {}, environmentVars: { LOG_LEVEL: "info" } };
  const steps = Array.from({ length: 5 }, () => sync.step(configurationKey, stored(resource, { status: others })).do);
  deepEqual(steps, ["update", "update", "update", "nothing", "nothing"]);
  const spec = { ...defaultSpec, logSeverityScreen: "Debug" };
  equal(sync.step(configurationKey, stored(resource, { status: others, spec })).do, "update", "ours is another now");
});

Deno.test("settings that cannot be read are the default ones", () => {
  const kv = { key: configurationKey, value: "{", revision: 1n };
  deepEqual([specIn(kv), specIn(undefined)], [defaultSpec, defaultSpec]);
});
