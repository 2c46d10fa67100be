import { isProblem } from "../lib/problem.ts";
import { formatIp, type Ip, tryParseIp } from "../lib/ip.ts";
import { type Answer, partiesOf, type Party, pathOf, type Question } from "../agent/why/path.ts";
import type { World } from "../agent/why/world.ts";
import { resourcePrefix } from "../datastore/kind.ts";
import type { Session } from "./session.ts";
import { deciderWords } from "../agent/why/words.ts";

/** What must not be cut by accident. */
export interface Lifelines {
  session?: Session;
  /** As settings name them: `https://10.0.0.1:2379`. Names and sockets of this host are not looked at. */
  datastore: readonly string[];
}

/** A lifeline that a change would cut. */
export interface Cut {
  is: "session" | "datastore";
  /** "your own session: ssh from 203.0.113.7 to port 22 of host n1". */
  what: string;
  /** Who would deny it. */
  why: string;
}

const tcp = 6;
/** A client's port when it is not known. */
const someClientPort = 49152;

/** Lifelines that packets find open before a change and closed after it. */
export function cutsOf(before: World, after: World, { session, datastore }: Lifelines): Cut[] {
  const questions = [
    ...(session ? sessionQuestions(after, session) : []),
    ...datastore.flatMap((endpoint) => datastoreQuestions(after, endpoint)),
  ];
  return questions.flatMap(({ is, what, ask }) => {
    const [a, b] = [before, after].map((world) => answerOf(world, ask));
    const stage = b?.stages.at(-1);
    if (a?.verdict !== "allow" || b?.verdict !== "deny" || !stage) return [];
    return [{ is, what, why: `${deciderWords(stage.decider)} (${stage.endpoint ?? `host ${stage.node}`})` }];
  });
}

/** Undefined where an end is not there, or has no address. */
function answerOf(world: World, ask: Lifeline["ask"]): Answer | undefined {
  try {
    return pathOf(world, ask(world));
  } catch (error) {
    if (!isProblem(error, "bad-input")) throw error;
    return undefined;
  }
}

interface Lifeline extends Pick<Cut, "is" | "what"> {
  ask(world: World): Question;
}

function sessionQuestions(world: World, session: Session): Lifeline[] {
  const { client, clientPort, server, serverPort, interfaceName } = session;
  const at = server && partiesOf(world, "", server)[0];
  const node = at?.is === "host" ? at.node : session.node;
  // A node without networking tells nothing of itself: then its host endpoints do.
  const isKnown = node !== undefined && (world.nodes.has(node) || world.subjects.some((s) => s.node === node));
  if (at?.is === "workload" || node === undefined || !isKnown) return [];
  const to: Party = { is: "host", node, address: server ?? addressIn(world, node, client) };
  if (to.address === undefined) return [];
  return [{
    is: "session",
    what: `your own session: ssh from ${formatIp(client)} to port ${serverPort} of host ${node}`,
    ask: (world) => ({
      ...{ from: partiesOf(world, "", client)[0]!, to, family: client.v, protocol: tcp },
      ...{ srcPort: clientPort || someClientPort, dstPort: serverPort, enters: interfaceName },
    }),
  }];
}

const addressIn = (world: World, node: string, { v }: Ip): Ip | undefined =>
  world.node(node).addresses.find((a) => a.ip.v === v)?.ip;

function datastoreQuestions(world: World, endpoint: string): Lifeline[] {
  const [, host, port] = /^https?:\/\/\[?([0-9a-f:.]+?)\]?:(\d+)$/i.exec(endpoint) ?? [];
  const address = host === undefined ? undefined : tryParseIp(host);
  if (!address || isLoopback(address)) return [];
  return [...world.nodes.values()].filter((n) => addressIn(world, n.name, address)).map(({ name }) => ({
    is: "datastore",
    what: `host ${name} from the datastore at ${endpoint}`,
    ask: (world) => ({
      ...{ from: { is: "host", node: name }, to: partiesOf(world, "", address)[0]!, family: address.v },
      ...{ protocol: tcp, srcPort: someClientPort, dstPort: Number(port) },
    }),
  }));
}

const isLoopback = ({ v, n }: Ip): boolean => (v === 4 ? n >> 24n === 127n : n === 1n);

const deciding = /^(hostendpoints|globalnetworkpolicies|tiers|profiles|felixconfigurations|globalnetworksets|nodes)\//;

/** True for keys of objects that may decide about a host's own packets. */
export const decidesOnHosts = (key: string): boolean =>
  key.startsWith(resourcePrefix) && deciding.test(key.slice(resourcePrefix.length));
