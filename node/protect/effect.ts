import { bits, type Cidr, formatIp, type Ip, parseIp } from "../../lib/ip.ts";
import { writeJson } from "../../lib/json64.ts";
import { pathOf } from "../../agent/why/path.ts";
import { World } from "../../agent/why/world.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { apiVersion } from "../../datastore/kind.ts";
import type { KeyValue } from "../../datastore/store.ts";
import type { LocalInterface } from "../interfaces.ts";
import type { Service } from "./services.ts";
import type { Survey } from "./survey.ts";

/** How a service is reached from elsewhere on one of the host's interfaces. */
export interface Reach {
  service: Service;
  interfaceName: string;
  before: boolean;
  after: boolean;
  /** It stays open whatever policies say. */
  failsafe: boolean;
}

/** Somebody far away (RFC 5737, RFC 3849). */
const stranger = { 4: parseIp("198.51.100.77"), 6: parseIp("2001:db8:77::77") };
const numbers = { TCP: 6, UDP: 17 };

/** Which services of a host somebody far away reaches, before and after. @param before, after all that is stored. */
export function effectOf(
  survey: Survey,
  node: string,
  before: readonly KeyValue[],
  after: readonly KeyValue[],
): Reach[] {
  const worlds = [before, after].map((stored) => new World(withNode(stored, node, survey.interfaces)));
  const reached = survey.interfaces.filter((i) => i.up && i.name !== "lo" && i.addresses.length > 0);
  return survey.services.flatMap((service) =>
    reached.flatMap((on): Reach[] => {
      const addresses = on.addresses.map((a) => a.ip).filter((ip) =>
        service.families.includes(ip.v) && !isLinkLocal(ip)
      );
      if (addresses.length === 0) return [];
      const [a, b] = worlds.map((world) => addresses.map((address) => ask(world!, node, on.name, address, service)));
      return [{
        ...{ service, interfaceName: on.name, before: a!.some((r) => r.passes), after: b!.some((r) => r.passes) },
        failsafe: b!.some((r) => r.failsafe),
      }];
    })
  );
}

function ask(world: World, node: string, enters: string, address: Ip, { protocol, port }: Service) {
  const { verdict, stages } = pathOf(world, {
    ...{ from: { is: "outside", address: stranger[address.v] }, to: { is: "host", node, address }, family: address.v },
    ...{ protocol: numbers[protocol], srcPort: 49152, dstPort: port, enters },
  });
  return { passes: verdict === "allow", failsafe: stages.at(-1)?.decider.by === "failsafe" };
}

const isLinkLocal = ({ v, n }: Cidr | Ip): boolean => v === 6 && n >> BigInt(bits(6) - 10) === 0x3fan;

/** As the node will tell of itself once it runs. */
function withNode(stored: readonly KeyValue[], node: string, interfaces: readonly LocalInterface[]): KeyValue[] {
  const key = resourceKey("Node", node);
  const spec = {
    interfaces: interfaces.map((i) => ({ name: i.name, addresses: i.addresses.map((a) => formatIp(a.ip)) })),
  };
  const value = writeJson({ apiVersion, kind: "Node", metadata: { name: node }, spec });
  return [...stored.filter((kv) => kv.key !== key), { key, value, revision: 1n, created: 1n }];
}

/** The effect for people: a line for each service and interface. */
export function effectText(effect: readonly Reach[]): string {
  if (effect.length === 0) return "nothing listens that others could reach\n";
  const word = (open: boolean) => (open ? "open" : "closed");
  const rows = effect.map(({ service, interfaceName, before, after, failsafe }) => [
    `${service.protocol.toLowerCase()}/${service.port}`,
    service.program || "?",
    interfaceName,
    word(before),
    `${word(after)}${failsafe ? " (failsafe)" : before === after ? "" : "  <-"}`,
  ]);
  const table = [["PORT", "PROGRAM", "ON", "NOW", "PROTECTED"], ...rows];
  const widths = table[0]!.map((_, i) => Math.max(...table.map((row) => row[i]!.length)));
  return table.map((row) => row.map((cell, i) => cell.padEnd(widths[i]! + 2)).join("").trimEnd() + "\n").join("");
}
