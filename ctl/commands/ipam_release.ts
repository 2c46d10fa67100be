import { formatIp, tryParseIp } from "../../lib/ip.ts";
import type { Command } from "../command.ts";

/** `ipam release`: takes one address back by hand. */
export const ipamRelease: Command = {
  words: ["ipam", "release"],
  summary: "Release an address by hand, or what reports of ipam check call leaked",
  usage: "--ip IP | --from-report FILE...",
  flags: [
    { name: "ip", value: "IP", help: "the address; who still uses it is not asked" },
    {
      name: "from-report",
      value: "FILE",
      multiple: true,
      help: "release what every one of these reports calls leaked",
    },
    { name: "force", help: "of another version, or of a datastore that is not locked, too" },
  ],
  examples: ["ipam release --ip 10.65.0.7", "ipam release --from-report a.json --from-report b.json"],
  async run(call) {
    const { surroundings } = call;
    const text = call.flags.text("ip");
    if (text === undefined && call.flags.texts("from-report").length > 0) {
      return await (await import("../ipam_report_release.ts")).releaseReported(call);
    }
    // calicoctl does nothing, and succeeds, when no address is given.
    if (text === undefined) return 0;
    const ip = tryParseIp(text);
    if (!ip) {
      surroundings.out(`Error executing command: invalid IP address specified: ${text}\n`);
      return 1;
    }
    const { allocatorOf } = await import("../../ipam/removal.ts");
    await using allocator = allocatorOf(await call.resources(), surroundings);
    const [outcome] = await allocator.release([{ addresses: [{ ip }] }]);
    if (outcome!.problem) throw outcome!.problem;
    if (outcome!.released.length === 0) {
      surroundings.err(`IP address ${formatIp(ip)} is not assigned\n`);
      return 1;
    }
    surroundings.out(`Successfully released IP address ${formatIp(ip)}\n`);
    return 0;
  },
};
