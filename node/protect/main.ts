import { parseArgs } from "node:util";
import { rfc3339, systemClock } from "../../lib/clock.ts";
import { formatIp } from "../../lib/ip.ts";
import { createLog } from "../../lib/log.ts";
import { nodeName } from "../../lib/node_name.ts";
import { Problem } from "../../lib/problem.ts";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import type { Resource } from "../../datastore/kind.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { commitPending, type PendingFound } from "../../datastore/pending.ts";
import { commitRehearsed, type Signature } from "../../datastore/commit.ts";
import { Rehearsal } from "../../datastore/rehearsal.ts";
import { Resources } from "../../datastore/resources.ts";
import type { Store } from "../../datastore/store.ts";
import { confirmTime, followPending } from "../../ctl/confirming.ts";
import { cutsOf } from "../../ctl/cut.ts";
import { cutRefused } from "../../ctl/cut_guard.ts";
import type { Session } from "../../ctl/session.ts";
import { World } from "../../agent/why/world.ts";
import { documentsIn } from "../../ctl/input.ts";
import { processSurroundings } from "../../ctl/process_surroundings.ts";
import { yamlText } from "../../ctl/yaml_text.ts";
import { guarded } from "../install.ts";
import { type Connection, connectionOfHost, ensureNode, inForce, listens, nodeReady } from "./begin.ts";
import { effectOf, effectText } from "./effect.ts";
import { type Port, proposal, sshPortsOf, uplinks, withStored } from "./proposal.ts";
import { removeProtection } from "./removal.ts";
import { type Survey, surveyHost } from "./survey.ts";

const usage = `usage: tortie protect [--yes] [--allow PORT]... [--close PORT]... [--interface NAME]... [--confirm TIME]
       tortie protect --print | -f FILE | --undo

Looks at this host, proposes a host endpoint, a policy and failsafe ports, shows what that changes, asks, and puts it in
force; unless \`tortie ctl confirm\` comes in time it is undone by itself. Starts tortie where it does not run yet, with a
datastore of this host's own unless ETCD_ENDPOINTS names one.

  --allow tcp/8080    open besides ssh and what listens on the web's ports (80, 443)
  --close tcp/80      not open, although it would be
  --interface NAME    what to protect, default the interfaces with a default route
  --confirm TIME      time to confirm, default 60s; 0 = needs no confirmation
  --yes               do not ask
  --force             go on even if that cuts your own session and nothing would undo it
  --print             print the objects as YAML and do nothing; change them and give them back with -f
  -f FILE             these objects instead of the proposed ones; - is standard input
  --undo              remove the protection; tortie runs on, \`tortie uninstall\` removes that
`;

/** \`tortie protect\`. @returns the exit code: 1 when nothing is protected. */
export const protect = (args: string[]): Promise<number> => guarded(usage, () => runProtect(args));

const tell = (line: string): void => console.error(line);

async function runProtect(args: string[]): Promise<number> {
  const text = { type: "string" } as const, flag = { type: "boolean" } as const;
  const { values } = parseArgs({
    args,
    strict: true,
    options: {
      help: { ...flag, short: "h" },
      yes: { ...flag, short: "y" },
      print: flag,
      undo: flag,
      allow: { ...text, multiple: true },
      close: { ...text, multiple: true },
      interface: { ...text, multiple: true },
      confirm: text,
      force: flag,
      file: { ...text, short: "f" },
    },
  });
  if (values.help) {
    console.log(usage.trimEnd());
    return 0;
  }
  if (Deno.uid() !== 0) {
    throw new Problem({ code: "unauthorized", what: "protecting a host needs root", todo: "Use sudo" });
  }
  const connection = await connectionOfHost(), node = nodeName({ env: connection.setting });
  await using opened = new OpenStore(connection);
  if (values.undo) return await undo(opened, node);
  const seconds = values.confirm === "0" ? 0 : confirmTime(values.confirm ?? "60s");
  const survey = await surveyHost(), session = await processSurroundings().session?.();
  const interfaces = values.interface ?? uplinks(survey.interfaces);
  checkInterfaces(survey, interfaces);
  const objects = values.file === undefined
    ? proposal(survey, {
      ...{ node, interfaces, allow: (values.allow ?? []).map(portOf), close: (values.close ?? []).map(portOf) },
      sshPorts: sshPortsOf(survey.services, session?.serverPort),
      ownFailsafes: connection.embedded,
    })
    : await objectsOf(values.file);
  const yaml = objects.map(yamlText).join("---\n");
  if (values.print) {
    console.log(yaml.trimEnd());
    return 0;
  }
  tell(`this host is ${node}\n${interfacesText(survey, interfaces)}`);
  if (values.file === undefined) console.log(yaml.trimEnd());
  tell(`\n${effectText(await effect(opened, survey, node, objects))}`);
  if (!values.yes && !asked(node, seconds)) return 1;
  return await putInForce(opened, { node, objects, seconds, survey, session, force: values.force ?? false });
}

/** The client of the datastore, opened when it is first needed. */
class OpenStore {
  #store: Store | undefined;
  constructor(readonly connection: Connection) {}

  get store(): Store {
    const log = createLog("protect", { level: "error" });
    return this.#store ??= openEtcd(this.connection.options, { clock: systemClock, log });
  }

  /** Undefined where there is no datastore yet. */
  async existing(): Promise<Store | undefined> {
    const { embedded, runDir } = this.connection;
    return embedded && !await listens(`${runDir}/store.sock`) ? undefined : this.store;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store?.[Symbol.asyncDispose]();
  }
}

function checkInterfaces({ interfaces }: Survey, names: readonly string[]): void {
  const unknown = names.find((name) => !interfaces.some((i) => i.name === name));
  const known = interfaces.map((i) => i.name).join(", ");
  if (unknown !== undefined) {
    throw new Problem({ code: "bad-input", what: `there is no interface ${unknown}`, todo: `There are ${known}` });
  }
  if (names.length > 0) return;
  throw new Problem({
    code: "bad-input",
    what: "no interface has a default route",
    todo: `Say with --interface which to protect: ${known}`,
  });
}

function portOf(text: string): Port {
  const [, protocol, port] = /^(tcp|udp)\/(\d{1,5})$/i.exec(text) ?? [];
  if (protocol && Number(port) > 0 && Number(port) <= 65535) {
    return { protocol: protocol.toUpperCase() as Port["protocol"], port: Number(port) };
  }
  throw new Problem({ code: "bad-input", what: `${text} is no port`, todo: "Write tcp/8080 or udp/53" });
}

async function objectsOf(file: string): Promise<Resource[]> {
  const text = file === "-" ? await new Response(Deno.stdin.readable).text() : await Deno.readTextFile(file);
  return (await documentsIn(text, file)).map((d) => d.resource);
}

function interfacesText({ interfaces }: Survey, chosen: readonly string[]): string {
  return interfaces.filter((i) => i.up && i.name !== "lo").map((i) => {
    const addresses = i.addresses.map((a) => `${formatIp(a.ip)}/${a.cidr.len}`).join(", ") || "no address";
    return `  ${i.name.padEnd(16)} ${chosen.includes(i.name) ? "to be protected" : "left as it is  "}  ${addresses}`;
  }).join("\n");
}

/** What is reachable before and after, tried out in memory. */
async function effect(opened: OpenStore, survey: Survey, node: string, objects: readonly Resource[]) {
  const rehearsal = await rehearse(await opened.existing() ?? new MemoryStore(), objects);
  return effectOf(survey, node, rehearsal.before, await rehearsal.after());
}

async function rehearse(store: Store, objects: readonly Resource[]): Promise<Rehearsal> {
  const rehearsal = await Rehearsal.of(store, {}), { resources } = rehearsal;
  if (store instanceof MemoryStore) await ensureInitialized(resources, "", () => crypto.randomUUID());
  for (const object of objects) await resources.apply(withStored(object, await stored(resources, object)));
  return rehearsal;
}

async function stored(resources: Resources, { kind, metadata }: Resource): Promise<Resource | undefined> {
  const { items } = await resources.list(kind);
  return items.find((i) => i.metadata.name === metadata.name && i.metadata.namespace === metadata.namespace);
}

function asked(node: string, seconds: number): boolean {
  if (!Deno.stdin.isTerminal()) {
    throw new Problem({ code: "bad-input", what: "nobody is there to be asked", todo: "Use --yes, or --print" });
  }
  const undone = seconds > 0 ? ` It is undone after ${seconds} s unless you confirm it.` : "";
  return /^y(es)?$/i.test(prompt(`Protect ${node} like this?${undone} [y/N]`)?.trim() ?? "");
}

const signature = (): Signature => ({
  by: processSurroundings().author!(),
  at: rfc3339(systemClock.now()),
});

interface Wanted {
  node: string;
  objects: readonly Resource[];
  seconds: number;
  survey: Survey;
  session: Session | undefined;
  force: boolean;
}

/** @throws Problem "unsupported" for what would cut the session for good, or the host from what would undo it. */
async function refuseCuts(
  rehearsal: Rehearsal,
  { options }: Connection,
  { session, seconds, node }: Wanted,
): Promise<void> {
  const lifelines = { session: session && { ...session, node }, datastore: options.endpoints };
  const cuts = cutsOf(new World(rehearsal.before), new World(await rehearsal.after()), lifelines);
  const lasting = cuts.filter((cut) => cut.is === "datastore" || seconds === 0);
  if (lasting.length > 0) throw cutRefused(lasting, "Leave the port open, or use --force");
  for (const { what, why } of cuts) tell(`this cuts ${what}: ${why}`);
}

async function putInForce(opened: OpenStore, wanted: Wanted): Promise<number> {
  const { node, objects, seconds, survey } = wanted;
  const { connection } = opened, clock = systemClock, beganMs = clock.monotonicMs();
  await ensureNode(connection, survey.interfaces, tell);
  await nodeReady(() => opened.store, connection, node, clock);
  const { store } = opened;
  await ensureInitialized(new Resources(store), "", () => crypto.randomUUID());
  const rehearsal = await rehearse(store, objects);
  if (!wanted.force) await refuseCuts(rehearsal, connection, wanted);
  const armedMs = clock.monotonicMs(), signed = signature();
  let found: PendingFound | undefined;
  if (seconds > 0) {
    found = await commitPending(store, rehearsal, { id: crypto.randomUUID().slice(0, 8), ...signed, seconds });
  } else if (await commitRehearsed(store, rehearsal, signed) === undefined) {
    throw new Problem({
      code: "conflict",
      what: "the datastore changed meanwhile: nothing is protected",
      todo: "Try again",
    });
  }
  const own = objects.filter(({ kind, spec }) => kind === "HostEndpoint" && spec.node === node);
  const names = own.map(({ spec }) => String(spec.interfaceName ?? "*")).filter((name) => name !== "*");
  await inForce(names, clock);
  tell(`${node} is protected after ${((clock.monotonicMs() - beganMs) / 1000).toFixed(1)} s`);
  if (!found) return 0;
  tell(`change ${found.change.id} is undone in ${seconds} s unless you confirm it: log in anew, to see that you can,`);
  tell("and say there: tortie ctl confirm");
  if (!Deno.stderr.isTerminal()) return 0;
  return await followPending({ ...processSurroundings(), clock }, store, found, armedMs + seconds * 1000);
}

async function undo(opened: OpenStore, node: string): Promise<number> {
  const store = await opened.existing();
  const removed = store ? await removeProtection(store, await Rehearsal.of(store, {}), node, signature()) : [];
  for (const name of removed) tell(`removed ${name}`);
  tell(removed.length > 0 ? `${node} is not protected any more` : `nothing protects ${node}`);
  return 0;
}
