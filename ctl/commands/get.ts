import { messageOf, Problem } from "../../lib/problem.ts";
import { isProblem } from "../../lib/problem.ts";
import type { Kind, Resource } from "../../datastore/kind.ts";
import type { BGPConfiguration } from "../../datastore/kinds/bgp_configuration.ts";
import { kindByName, kindByWord, kinds } from "../../datastore/kinds/index.ts";
import type { Resources } from "../../datastore/resources.ts";
import { badInput, type Call, type Command } from "../command.ts";
import type { Found } from "../found.ts";
import { choiceOf, chosen } from "../choice.ts";
import { paintOf } from "../paint.ts";
import { parseFormat, render, type TableContext } from "../output.ts";
import type { Surroundings } from "../surroundings.ts";
import { fileFlags, named, objectsOf, placeInNamespace, unknownKind } from "../writing.ts";

/** AS number of nodes when nobody says another. */
const defaultAsNumber = 64512;

/** `get`: shows objects as a table, YAML or JSON. */
export const get: Command = {
  words: ["get"],
  summary: "Show objects: all of a kind, some by name, or those named in a file",
  usage: "KIND[,KIND...] [NAME...] | all | -f FILE",
  flags: [
    {
      name: "output",
      short: "o",
      value: "FORMAT",
      help: "ps, wide, yaml, json, name, custom-columns=A,B or go-template=T",
    },
    { name: "all-namespaces", short: "Aa", help: "objects of all namespaces" },
    { name: "selector", value: "SELECTOR", help: "only objects whose labels it matches, such as \"rack == 'a'\"" },
    { name: "sort-by", value: "COLUMN|PATH", help: "order by a column, or by a member such as spec.order" },
    { name: "watch", short: "w", help: "go on showing changes until Ctrl-C" },
    { name: "export", help: "leave out what belongs to this cluster (with a name)" },
    ...fileFlags,
  ],
  failure: "failed to get resources: ",
  examples: ["get nodes -o wide", "get np -n shop allow-web -o yaml"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const format = await parseFormat(flags.text("output") ?? "ps", surroundings.readFile);
  const asked = await askedFor(call);
  const choice = choiceOf(flags.text("selector"), flags.text("sort-by"));
  const resources = await call.resources();
  const found: Found[] = [];
  const problems: Problem[] = [];
  for (const resource of asked) {
    try {
      const one = chosen(await find(call, resources, resource), choice);
      if (one.revision !== undefined || one.items.length > 0) found.push(one);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problems.push(error);
    }
  }
  const namespaces = flags.on("all-namespaces") || !!flags.text("namespace");
  const context = { ...await tableContext(resources, found, namespaces), colours: paintOf(surroundings) };
  if (flags.on("watch") && problems.length === 0) {
    const { watchFound } = await import("../watching.ts");
    return await watchFound({ surroundings, store: resources.store, format, context, choice }, found, asked);
  }
  if (format.is === "wide" && surroundings.program !== "calicoctl") {
    await addCounts(surroundings, found);
    await addEffects(call, resources, found);
  }
  if (problems.length < asked.length || format.is === "yaml" || format.is === "json") {
    surroundings.out(render(found, format, found.length !== 1, context));
  }
  if (problems.length > 0) surroundings.err(problems.map(messageOf).join("\n") + "\n");
  return problems.length > 0 ? 1 : 0;
}

/** What rules have counted on this host. DIFFERS: calicoctl has no such columns, so scripts that call it get none. */
async function addCounts(surroundings: Surroundings, found: Found[]): Promise<void> {
  const policies = found.filter(({ kind }) => ["NetworkPolicy", "GlobalNetworkPolicy"].includes(kind.kind));
  if (policies.length === 0) return;
  const { liveCounts, withCounts } = await import("../live_counts.ts");
  const counts = await liveCounts(surroundings);
  if (counts) { for (const one of policies) one.kind = withCounts(one.kind, counts); }
}

/** What staged policies would change. */
async function addEffects(
  { surroundings: { clock, uuid } }: Call,
  resources: Resources,
  found: Found[],
): Promise<void> {
  const { isStaged, withEffects } = await import("../staged.ts");
  for (const one of found.filter(({ kind, items }) => isStaged(kind.kind) && items.length > 0)) {
    one.kind = await withEffects(one.kind, one.items, resources, { clock, uuid });
  }
}

/** The objects asked for; those without a name mean all of their kind. */
async function askedFor(call: Call): Promise<Resource[]> {
  if (call.flags.text("filename") !== undefined) return (await objectsOf(call)).map((d) => d.resource);
  const [words = "", ...names] = call.args;
  const kindWords = words.toLowerCase() === "all" ? publicKinds(call).map((k) => k.kind) : words.split(",");
  const strange = kindWords.find((word) => !kindByWord(word));
  if (words !== "" && strange !== undefined) {
    throw unknownKind(`failed to get resources: resource type '${strange}' is not supported`, strange);
  }
  return kindWords.flatMap((word) => named({ ...call, args: word ? [word, ...names] : [] })).map((d) => d.resource);
}

/** Kinds that `all` means; with -n those with namespaces. */
const publicKinds = (call: Call): Kind[] =>
  kinds.filter((k) =>
    !k.internal && (k.namespaced || !call.flags.text("namespace") && !call.flags.on("all-namespaces"))
  );

async function find(call: Call, resources: Resources, asked: Resource): Promise<Found> {
  placeInNamespace(call, asked);
  const kind = kindByName(asked.kind);
  const { name, namespace } = asked.metadata;
  if (!name) {
    const { items, revision, undecodable } = await resources.list(kind.kind, namespace);
    for (const { key, why } of undecodable) {
      call.surroundings.err(`warning: ${key} cannot be read and is not shown: ${why}\n`);
    }
    return { kind, items, revision };
  }
  if (kind.namespaced && !namespace) throw badInput("cannot use --all-namespace flag for getting a single resource");
  const item = await resources.get(kind.kind, name, namespace);
  return { kind, items: [call.flags.on("export") ? exported(item) : item] };
}

/** An object without what belongs to its cluster. */
function exported(resource: Resource): Resource {
  const { name, labels, annotations } = resource.metadata;
  return { ...resource, metadata: { name, labels, annotations } };
}

async function tableContext(resources: Resources, found: Found[], namespaces: boolean): Promise<TableContext> {
  const context = { namespaces, asNumber: defaultAsNumber };
  if (!found.some((f) => f.kind.kind === "Node")) return context;
  try {
    const { spec } = await resources.get<BGPConfiguration>("BGPConfiguration", "default");
    return { ...context, asNumber: spec.asNumber ?? defaultAsNumber };
  } catch (error) {
    if (!isProblem(error, "not-found", "undecodable", "unauthorized")) throw error;
    return context;
  }
}
