import { formatCidr, formatIp, type Ip, ipAt, tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";
import { isObject, writeJson } from "../lib/json64.ts";
import type { IPReservation } from "../datastore/kinds/ip_reservation.ts";
import { attributeOf, type Block, handleOf, ordinalAt } from "../ipam/block.ts";
import { coldReader, type View, viewOf } from "../ipam/view.ts";
import { type Call, outputOf } from "./command.ts";
import { addressJson, usageJson } from "./ipam_json.ts";
import { blockOf, type PoolUsage, usageOf } from "../ipam/usage.ts";
import { usageRow } from "./ipam_usage.ts";
import { boxTable } from "./table.ts";

/** What `ipam show` prints, by its flags. @returns the exit code. */
export async function showIpam(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const output = outputOf(call);
  const wanted = flags.text("ip");
  const ip = wanted === undefined ? undefined : tryParseIp(wanted);
  if (wanted !== undefined && !ip) {
    surroundings.out(`Error executing command: invalid IP address specified: ${wanted}\n`);
    return 1;
  }
  const { store } = await call.resources();
  const view = viewOf(await coldReader(store));
  const asJson = (value: unknown) => surroundings.out(`${writeJson(value, 2)}\n`);
  if (output === "json" && ip) asJson(addressJson(view, ip));
  else if (output === "json" && flags.on("show-configuration")) asJson(view.config());
  else if (output === "json" && !flags.on("show-borrowed")) asJson(usageJson(await usages(call, view)));
  else if (ip) surroundings.out(addressText(view, ip));
  else if (flags.on("show-blocks")) surroundings.out(usageText(await usages(call, view), true));
  else if (flags.on("show-borrowed")) surroundings.out(borrowedText(view, output));
  else if (flags.on("show-configuration")) surroundings.out(configurationText(view));
  else surroundings.out(usageText(await usages(call, view), false));
  for (const problem of view.problems()) surroundings.err(`warning: ${problem.message}\n`);
  return 0;
}

async function usages(call: Call, view: View): Promise<PoolUsage[]> {
  const { items } = await (await call.resources()).list<IPReservation>("IPReservation");
  const reserved = items.flatMap((r) => r.spec.reservedCIDRs ?? []).map(tryParseCidrOrIp);
  return usageOf(view, reserved.filter((c) => c !== undefined));
}

function usageText(usages: PoolUsage[], withBlocks: boolean): string {
  const rows = usages.flatMap(({ pool, blocks }) => [
    ...(pool ? [usageRow("IP Pool", pool)] : []),
    ...(withBlocks ? blocks.map((block) => usageRow("Block", block)) : []),
  ]);
  const head = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"];
  return boxTable(head, rows, { right: new Set([2, 3, 4, 5]) });
}

function addressText(view: View, ip: Ip): string {
  const block = blockOf(view, ip);
  const attribute = block && attributeOf(block, ordinalAt(block, ip) ?? -1);
  if (!attribute) return `${formatIp(ip)} is not assigned\n`;
  const active = ownerText("Active Owner Attributes", attribute.secondary);
  return `IP ${formatIp(ip)} is in use\nHandle ID: ${handleOf(attribute) ?? "<none>"}\n` +
    (active || "No Active Owner attributes defined\n") +
    ownerText("Alternate Owner Attributes", attribute.alternateOwnerAttrs) +
    (typeof attribute.releasedAt === "string" ? `Released at ${attribute.releasedAt}, cooling down\n` : "");
}

function ownerText(title: string, attributes: unknown): string {
  if (!isObject(attributes) || Object.keys(attributes).length === 0) return "";
  const lines = Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `  ${k}: ${v}\n`);
  return `${title}:\n${lines.join("")}`;
}

function borrowedText(view: View, output: "text" | "json"): string {
  const rows: string[][] = [];
  let unknown = 0;
  for (const block of [...view.blocks(4), ...view.blocks(6)].map((stored) => stored.value)) {
    for (const [ordinal, index] of block.allocations.entries()) {
      if (index === null) continue;
      const row = borrowedRow(block, ordinal);
      if (row === "unknown") unknown++;
      else if (row) rows.push(row);
    }
  }
  if (output === "json") {
    const named = rows.map(([ip, node, block, owner, type, to]) => ({ ip, node, block, owner, type, to }));
    return `${writeJson({ borrowed: named, withoutNode: unknown }, 2)}\n`;
  }
  const table = boxTable(["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"], rows);
  if (unknown === 0) return table;
  const note = `Note: found ${unknown} IP allocations without an explicit node association.`;
  return `${table}\n${note} Unable to determine if they are borrowed.\n`;
}

/** The row of an address whose node is not the block's; "unknown" when it has no node. */
function borrowedRow(block: Block, ordinal: number): string[] | "unknown" | undefined {
  const secondary = attributeOf(block, ordinal)?.secondary;
  const attributes = isObject(secondary) ? secondary : {};
  if (attributes.node === undefined) return "unknown";
  const owner = block.affinity?.split(":")[1] ?? block.affinity ?? "";
  const node = String(attributes.node);
  if (node === owner) return undefined;
  const [type, to] = attributes["vmi-name"] !== undefined
    ? ["vmi", `${attributes.namespace ?? ""}/${attributes["vmi-name"]}`]
    : attributes.pod !== undefined
    ? ["pod", `${attributes.namespace ?? ""}/${attributes.pod}`]
    : [String(attributes.type ?? ""), ""];
  return [formatIp(ipAt(block.cidr, ordinal)), node, formatCidr(block.cidr), owner, type!, to!];
}

function configurationText(view: View): string {
  const { strict, autoAllocate, maxBlocks, cooldownS } = view.config();
  return boxTable(["PROPERTY", "VALUE"], [
    ["StrictAffinity", String(strict)],
    ["AutoAllocateBlocks", String(autoAllocate)],
    ["MaxBlocksPerHost", String(maxBlocks)],
    ["IPCooldownSeconds", String(cooldownS)],
  ]);
}
