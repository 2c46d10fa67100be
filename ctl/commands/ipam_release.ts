import { formatIp, tryParseIp } from "../../lib/ip.ts";
import type { Command } from "../command.ts";

/** `ipam release`: takes one address back by hand. */
export const ipamRelease: Command = {
  words: ["ipam", "release"],
  summary: "Release an address by hand; who still uses it is not asked",
  usage: "--ip IP",
  flags: [{ name: "ip", value: "IP", help: "the address" }],
  examples: ["ipam release --ip 10.65.0.7"],
  async run(call) {
    const { surroundings } = call;
    const text = call.flags.text("ip");
    // calicoctl does nothing, and succeeds, when no address is given.
    if (text === undefined) return 0;
    const ip = tryParseIp(text);
    if (!ip) {
      surroundings.out(`Error executing command: invalid IP address specified: ${text}\n`);
      return 1;
    }
    const { allocatorOf } = await import("../removal.ts");
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
