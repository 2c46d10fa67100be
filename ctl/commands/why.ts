import { parseJson, writeJson } from "../../lib/json64.ts";
import { type Family, tryParseIp } from "../../lib/ip.ts";
import { addressOf, partiesOf, type Party, partyName, pathOf, type Question } from "../../agent/why/path.ts";
import { World } from "../../agent/why/world.ts";
import { durationMs } from "../../datastore/duration.ts";
import { liveCounts } from "../live_counts.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { storedResources } from "../../datastore/resources.ts";
import { yamlText } from "../yaml_text.ts";
import { answerJson, answerText, type CountersSeen } from "../why_text.ts";

/** `why`: what becomes of a packet, and who decides. Calico has no such command. */
export const why: Command = {
  words: ["why"],
  summary: "Tell what becomes of a packet, hop by hop, and which policy and rule decides",
  usage: "SOURCE DESTINATION PROTOCOL[/PORT]",
  flags: [
    { name: "output", short: "o", value: "FORMAT", help: "text, json or yaml" },
    { name: "source-port", value: "PORT", help: "source port; default 49152" },
    { name: "ipv6", short: "6", help: "by IPv6 where both ends have both" },
    { name: "from-interface", value: "NAME", help: "interface by which it reaches the destination's node" },
    { name: "during", value: "DURATION", help: "watch the live rules' counters so long, such as 10s" },
    { name: "to-interface", value: "NAME", help: "interface by which it leaves the source's node" },
  ],
  takes: 3,
  examples: ["why shop/web shop/db tcp/5432", "why 203.0.113.7 node-1 tcp/22", "why shop/web 10.0.0.9 icmp/8 -o json"],
  run,
};

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const output = flags.text("output") ?? "text";
  if (!["text", "json", "yaml"].includes(output)) throw badInput(`unrecognized output format '${output}'`);
  const { store } = await call.resources();
  const world = new World(await storedResources(store));
  const question = questionOf(call, world);
  const answer = pathOf(world, question);
  const live = await countersOf(call);
  if (output === "text") surroundings.out(answerText(world, question, answer, live));
  else {
    const json = writeJson(answerJson(world, question, answer, live), 2);
    surroundings.out(output === "json" ? `${json}\n` : yamlText(parseJson(json)));
  }
  return 0;
}

/** What the rules of this host have counted, and with `--during` what they had some time before. */
async function countersOf({ flags, surroundings }: Call): Promise<CountersSeen> {
  const asked = flags.text("during"), ms = asked === undefined ? 0 : durationMs(asked);
  if (ms === undefined || ms < 0 || ms > 3_600_000) throw badInput(`--during: ${asked} is no duration up to 1h`);
  const now = await liveCounts(surroundings);
  if (ms === 0) return { now };
  if (!now) throw badInput("--during: no agent answers on this host", "ask on the node whose rule you want to watch");
  await surroundings.clock.sleep(ms);
  return { before: now, now: await liveCounts(surroundings) };
}

function questionOf({ args, flags }: Call, world: World): Question {
  const [source, destination, traffic] = args as [string, string, string];
  const from = theParty(world, source), to = theParty(world, destination);
  const family = familyOf(world, from, to, flags.on("ipv6"));
  const { protocol, port } = trafficOf(traffic, family);
  const isIcmp = protocol === 1 || protocol === 58;
  const srcPort = portOf(flags.text("source-port") ?? "49152", "source-port");
  return {
    ...{ from, to, family, protocol },
    srcPort: hasPorts(protocol) ? srcPort : 0,
    dstPort: hasPorts(protocol) ? port! : 0,
    icmp: isIcmp ? { type: port ?? (family === 4 ? 8 : 128), code: 0 } : undefined,
    enters: flags.text("from-interface"),
    leaves: flags.text("to-interface"),
  };
}

function theParty(world: World, word: string): Party {
  const parties = partiesOf(world, word, tryParseIp(word));
  if (parties.length === 1) return parties[0]!;
  if (parties.length === 0) {
    throw badInput(
      `${word} is no address, endpoint or node`,
      "write NAMESPACE/POD, a node's or host endpoint's name, or an address",
    );
  }
  throw badInput(`${word} may be any of ${parties.map(partyName).join(", ")}`, "write NAMESPACE/NAME or the address");
}

/** The version that both ends have; an end without addresses takes the other's. */
function familyOf(world: World, from: Party, to: Party, ipv6: boolean): Family {
  const can = (party: Party, family: Family): boolean => {
    try {
      return addressOf(world, party, family).v === family;
    } catch {
      // No address of this version: that is the answer.
      return false;
    }
  };
  const both = ([6, 4] as const).filter((v) => can(from, v) && can(to, v));
  const family = ipv6 ? both.find((v) => v === 6) : both.at(-1);
  if (family) return family;
  throw badInput(`${partyName(from)} and ${partyName(to)} have no addresses of one IP version`);
}

const protocols: Record<string, number> = { tcp: 6, udp: 17, sctp: 132, udplite: 136, icmpv6: 58 };
const hasPorts = (protocol: number): boolean => [6, 17, 132, 136].includes(protocol);

function trafficOf(text: string, family: Family): { protocol: number; port?: number } {
  const [name, number] = text.toLowerCase().split("/", 2) as [string, string | undefined];
  const protocol = name === "icmp"
    ? (family === 4 ? 1 : 58)
    : protocols[name] ?? (/^\d{1,3}$/.test(name) ? Number(name) : NaN);
  if (!(protocol > 0 && protocol < 256)) {
    throw badInput(`${name} is no protocol`, "write tcp/PORT, udp/PORT, icmp or a number");
  }
  if (hasPorts(protocol) && number === undefined) throw badInput(`${name} needs a port`, `write ${name}/PORT`);
  return { protocol, port: number === undefined ? undefined : portOf(number, text) };
}

function portOf(text: string, where: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (port <= 65535) return port;
  throw badInput(`${where}: ${text} is no port`);
}
