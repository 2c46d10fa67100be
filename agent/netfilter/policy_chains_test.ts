import assert from "node:assert/strict";
import { understand } from "../calc/inputs.ts";
import { resource } from "../../tests/random_policy.ts";
import type { PolicyInput } from "../calc/inputs.ts";
import { activePolicy } from "../calc/outputs.ts";
import { chainLines } from "./iptables_text.ts";
import { defaultSettings, type NetfilterSettings } from "./model.ts";
import { policyChains } from "./policy_chains.ts";

/** Lines of a global policy with these ingress rules, without chain names and comments. */
function lines(ingress: object[], settings: NetfilterSettings = defaultSettings(4), name = "p"): string[] {
  const { input } = understand(resource("GlobalNetworkPolicy", name, undefined, { types: ["Ingress"], ingress }));
  const [chain] = policyChains(activePolicy(input as PolicyInput, () => false), settings);
  const text = chainLines(chain!, { family: settings.family, randomFully: true }).lines;
  return text.map((l) => l.replace(`-A ${chain!.name} `, "").replaceAll(/-m comment --comment "[^"]*" ?/g, ""));
}
const drop = "--jump MARK --set-mark 0x40000/0x40000", end = "-m mark --mark 0x40000/0x40000 --jump DROP";
const deny = (rule: object) => ({ action: "Deny", ...rule });

Deno.test("protocol and notProtocol make one match, or none when they contradict", () => {
  assert.deepEqual(lines([deny({ protocol: "TCP", notProtocol: "UDP" })]), [`-p tcp ${drop}`, end]);
  assert.deepEqual(lines([deny({ protocol: 17, notProtocol: "UDP" })]), [""]);
});

Deno.test("ICMP types stand beside the ICMP of the family only", () => {
  const type = { type: 8 };
  assert.deepEqual(lines([deny({ icmp: type })]), [`-p 1 -m icmp --icmp-type 8 ${drop}`, end]);
  assert.deepEqual(lines([deny({ protocol: 58, icmp: type })]), [""]);
  assert.deepEqual(lines([deny({ protocol: 1, icmp: type })], defaultSettings(6)), [""]);
  assert.deepEqual(lines([deny({ protocol: "TCP", notICMP: type })]), [`-p tcp ${drop}`, end]);
  assert.deepEqual(lines([deny({ notICMP: type })]), [
    "--jump MARK --set-mark 0x80000/0x180000",
    "-p 1 -m icmp --icmp-type 8 --jump MARK --set-mark 0/0x80000",
    `-m mark --mark 0x80000/0x80000 ${drop}`,
    end,
  ]);
});

Deno.test("ports without a protocol that has some, and ICMP type 255, which means any to iptables, close the rule", () => {
  const ports = { destination: { ports: [80] } };
  assert.deepEqual(lines([deny(ports)]), [drop, end]);
  assert.deepEqual(lines([{ action: "Allow", ...ports }, { action: "Allow", protocol: "ICMP", ...ports }]), [""]);
  assert.deepEqual(lines([{ action: "Allow", protocol: "ICMP", icmp: { type: 255 } }]), [""]);
});

Deno.test("a name or prefix with blanks, quotes or line ends stays inside its place", () => {
  const settings = { ...defaultSettings(4), logPrefix: 'a"\n-A INPUT b\\', flowLogs: true };
  const text = lines([{ action: "Log" }, deny({})], settings, 'x" \n-F');
  assert.equal(text[0], '--jump LOG --log-prefix "a__-A INPUT b_: " --log-level 5');
  assert.equal(
    text[2],
    "-m mark --mark 0x40000/0x40000 --jump NFLOG --nflog-group 1 --nflog-prefix DPI1|gnp/x___-F --nflog-size 80",
  );
  assert.ok(text.every((l) => !l.includes("\n")));
});
