import { formatIp } from "../../lib/ip.ts";
import { durationMs } from "../../datastore/duration.ts";
import { badInput, type Call, type Command } from "../command.ts";
import type { Allocation } from "../ipam_check.ts";
import { plainTable } from "../table.ts";

/** `ipam gc`: releases addresses that nobody uses, with a reason for each. */
export const ipamGc: Command = {
  words: ["ipam", "gc"],
  summary: "Release addresses that nobody uses any more; --dry-run says which and why",
  usage: "",
  flags: [
    { name: "dry-run", help: "only say what would be released, and why" },
    { name: "min-age", value: "DURATION", help: "leave what was given later than this; default 15m" },
    { name: "output", short: "o", value: "FORMAT", help: "ps or json" },
  ],
  examples: ["ipam gc --dry-run", "ipam gc --min-age 1h"],
  run,
};

/** Between the two looks that an address must be found unused in: longer than an ADD takes. */
const secondLookMs = 5_000;

async function run(call: Call): Promise<number> {
  const { flags, surroundings } = call;
  const minAge = durationMs(flags.text("min-age") ?? "15m");
  if (minAge === undefined || minAge < 0) throw badInput(`invalid duration ${flags.text("min-age")}`);
  const format = flags.text("output") ?? "ps";
  if (format !== "ps" && format !== "json") throw badInput(`unrecognized output format '${format}'`);
  const resources = await call.resources();
  const { look } = await import("../ipam_look.ts");
  const { givenAt, leakReason } = await import("../ipam_check.ts");
  const { check, nodes } = await look(resources);
  const youngest = surroundings.clock.now() - minAge;
  // Addresses of one handle belong together: while one of them is used, all are.
  const held = new Set(check.allocations.filter((a) => !check.leaked.includes(a)).flatMap((a) => a.handle ?? []));
  const due = check.leaked.filter((a) => (givenAt(a) ?? 0) <= youngest && !(a.handle && held.has(a.handle)));
  const rows = due.map((a) => ({
    ip: formatIp(a.ip),
    node: a.node,
    handle: a.handle ?? "",
    reason: leakReason(a, nodes),
  }));
  if (format === "json") surroundings.out(`${JSON.stringify(rows, undefined, 2)}\n`);
  else surroundings.out(plainTable(["IP", "NODE", "HANDLE", "REASON"], rows.map((r) => Object.values(r))));
  const later = check.leaked.length - due.length;
  if (later > 0) {
    surroundings.err(
      `${later} more look unused, but were given less than the minimum age ago or share a handle with one in use.\n`,
    );
  }
  if (flags.on("dry-run") || due.length === 0) return 0;
  return await release(call, due);
}

/** Releases what a second look still finds unused, as it was: same handle, same sequence number. */
async function release(call: Call, due: Allocation[]): Promise<number> {
  const { surroundings } = call;
  const resources = await call.resources();
  await surroundings.clock.sleep(secondLookMs);
  const { look } = await import("../ipam_look.ts");
  const { allocatorOf } = await import("../../ipam/removal.ts");
  const again = new Map((await look(resources)).check.leaked.map((a) => [formatIp(a.ip), a.sequenceNumber]));
  const still = due.filter((a) => again.get(formatIp(a.ip)) === a.sequenceNumber);
  await using allocator = allocatorOf(resources, surroundings);
  const outcomes = await allocator.release(
    still.map(({ ip, handle, sequenceNumber }) => ({ addresses: [{ ip, handle, sequenceNumber }] })),
  );
  const released = outcomes.reduce((n, outcome) => n + outcome.released.length, 0);
  const problems = outcomes.flatMap((outcome) => outcome.problem?.message ?? []);
  surroundings.err(`Released ${released} of ${due.length} addresses.\n`);
  for (const problem of new Set(problems)) surroundings.err(`${problem}\n`);
  return problems.length > 0 ? 1 : 0;
}
