import type { Command } from "../command.ts";

/** `ipam show`: who has which addresses. */
export const ipamShow: Command = {
  words: ["ipam", "show"],
  summary: "Show the use of pools and blocks, one address, borrowed addresses, or IPAM's settings",
  usage: "",
  flags: [
    { name: "ip", value: "IP", help: "who has this address" },
    { name: "show-blocks", help: "the blocks of each pool too" },
    { name: "show-borrowed", help: "addresses that a node took of another's block" },
    { name: "show-configuration", help: "the settings that allocation reads" },
    { name: "output", short: "o", value: "FORMAT", help: "text or json" },
  ],
  examples: ["ipam show --show-blocks", "ipam show --ip 10.65.0.7"],
  run: async (call) => (await import("../ipam_report.ts")).showIpam(call),
};
