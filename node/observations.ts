import { type Json, writeJson } from "../lib/json64.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { DropReport } from "../agent/drops/report.ts";
import type { PolicyPart } from "./policy_part.ts";
import type { Shared } from "./parts.ts";

/** What the answers are made of. */
export interface ObservationSources extends Pick<Shared, "node" | "mirror" | "signal"> {
  policy: Pick<PolicyPart, "counts" | "drops">;
}

/** How long somebody may watch without asking again. */
const mostSeconds = 24 * 3600;
const usualSeconds = 3600;

/**
 * What the agent's socket answers to who looks at this node, by method and path:
 * `GET /v1/counters`: `{node, revision, decisions, interfaces}`, see NodeCounts; programs are run for it.
 * `GET /v1/drops?for=SECONDS`: DropReports as they happen, one JSON object a line, an empty line each second of silence.
 */
export function observations(
  sources: ObservationSources,
): ReadonlyMap<string, (request: Request) => Promise<Response>> {
  return new Map([
    ["GET /v1/counters", () => answered(() => counters(sources))],
    ["GET /v1/drops", (request: Request) => answered(() => drops(sources, new URL(request.url).searchParams))],
  ]);
}

async function counters({ node, mirror, policy }: ObservationSources): Promise<Response> {
  const counts = await policy.counts();
  return json(200, { node, revision: mirror.revision, ...counts } as unknown as Json);
}

async function drops({ policy, signal }: ObservationSources, query: URLSearchParams): Promise<Response> {
  const asked = Number(query.get("for") ?? usualSeconds);
  if (!(asked > 0 && asked <= mostSeconds)) {
    return json(400, { error: `for: wanted seconds, at most ${mostSeconds}` });
  }
  const stop = new AbortController();
  const watched = (await policy.drops()).watch(AbortSignal.any([signal, stop.signal]), asked * 1000);
  // The first answer tells whether the kernel can tell at all.
  const first = await watched.next();
  const body = new ReadableStream<Uint8Array>({
    start: (to) => to.enqueue(lines(first.value ?? [])),
    async pull(to) {
      try {
        const { value, done } = await watched.next();
        if (done) to.close();
        else to.enqueue(lines(value));
      } catch (error) {
        to.enqueue(lines([{ is: "end", why: messageOf(error) }]));
        to.close();
      }
    },
    async cancel() {
      stop.abort();
      await watched.return(undefined);
    },
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}

/** Nothing to tell is an empty line, by which a watcher who has gone is noticed. */
const lines = (reports: readonly DropReport[]): Uint8Array =>
  new TextEncoder().encode(reports.map((r) => JSON.stringify(r)).join("\n") + "\n");

/** Problems as an answer: 503 with the words. */
async function answered(work: () => Promise<Response>): Promise<Response> {
  try {
    return await work();
  } catch (error) {
    if (!isProblem(error)) throw error;
    return json(503, { error: error.todo ? `${error.message}. ${error.todo}` : error.message });
  }
}

const json = (status: number, body: Json): Response =>
  new Response(writeJson(body) + "\n", { status, headers: { "content-type": "application/json" } });
