import { isObject, parseJson } from "../lib/json64.ts";
import { parseRfc3339 } from "../lib/clock.ts";
import { httpClientOf } from "./gateway.ts";
import type { StoreOptions } from "./options.ts";

/** What one member of etcd says of itself over HTTP. */
export interface MemberAnswer {
  /** Size of its database file. */
  sizeBytes: number;
  /** Undefined when it does not say (metrics are served elsewhere). */
  quotaBytes?: number;
  /** `NOSPACE`, `CORRUPT`. */
  alarms: string[];
  /** Its time of day, unix ms, exact to a second; undefined when it does not say. */
  nowMs?: number;
}

/**
 * Asks a member through etcd's JSON gateway (`/v3/maintenance/…`) and its `/metrics`. Alarms and the quota stay unknown
 * where its users and ports do not let us.
 * @throws Error of fetch when it does not answer in time, or does not as etcd does.
 */
export async function askMember(endpoint: string, options: StoreOptions, timeoutMs: number): Promise<MemberAnswer> {
  using client = httpClientOf(options);
  const ask = (path: string, body?: string) =>
    fetch(`${endpoint.replace(/\/+$/, "")}${path}`, {
      ...(body === undefined ? {} : { method: "POST", body }),
      redirect: "error",
      signal: AbortSignal.timeout(timeoutMs),
      ...(client && { client }),
    });
  const status = await ask("/v3/maintenance/status", "{}");
  const nowMs = dateOf(status.headers);
  const told = parseJson(await status.text());
  if (!isObject(told) || told.dbSize === undefined) throw new Error(`no answer of etcd's (HTTP ${status.status})`);
  const [alarms, quotaBytes] = await Promise.all([
    alarmsIn(await ask("/v3/maintenance/alarm", "{}")),
    quotaIn(await ask("/metrics")),
  ]);
  return { sizeBytes: Number(told.dbSize), quotaBytes, alarms, nowMs };
}

/** RFC 9110 §5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`. */
function dateOf(headers: Headers): number | undefined {
  const [, day, month, year, time] =
    /^\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d:\d\d:\d\d) GMT$/.exec(headers.get("date") ?? "") ?? [];
  const number = "JanFebMarAprMayJunJulAugSepOctNovDec".indexOf(month ?? "?") / 3 + 1;
  return day ? parseRfc3339(`${year}-${String(number).padStart(2, "0")}-${day}T${time}Z`) : undefined;
}

async function alarmsIn(response: Response): Promise<string[]> {
  const text = await response.text();
  const answer = response.ok ? parseJson(text) : undefined;
  const alarms = isObject(answer) && Array.isArray(answer.alarms) ? answer.alarms.filter(isObject) : [];
  return alarms.map(({ alarm }) => String(alarm)).filter((alarm) => alarm !== "NONE");
}

async function quotaIn(response: Response): Promise<number | undefined> {
  const text = await response.text();
  const found = response.ok ? /^etcd_server_quota_backend_bytes (\S+)$/m.exec(text)?.[1] : undefined;
  return found === undefined ? undefined : Number(found) || undefined;
}
