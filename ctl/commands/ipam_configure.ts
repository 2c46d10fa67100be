import { badInput, type Call, type Command } from "../command.ts";

/** A setting of IPAM: its flag, its member in etcd, how it is told, and how its value is read. */
interface Setting {
  flag: string;
  member: string;
  told: string;
  read(text: string): boolean | number | string | undefined;
  refusal: string;
}

const wholeNumber = (text: string) => (/^-?\d+$/.test(text) ? Number(text) : undefined);

const settings: readonly Setting[] = [
  {
    flag: "strictaffinity",
    member: "strict_affinity",
    told: "StrictAffinity",
    read: (text) => ({ true: true, false: false })[text],
    refusal: "invalid value. Use true or false to set strictaffinity",
  },
  {
    flag: "max-blocks-per-host",
    member: "maxBlocksPerHost",
    told: "MaxBlocksPerHost",
    read: wholeNumber,
    refusal: "invalid value for maxblockhost. Use a valid number",
  },
  {
    flag: "kubevirt-ip-persistence",
    member: "kubeVirtVMAddressPersistence",
    told: "KubeVirtVMAddressPersistence",
    read: (text) => (["Enabled", "Disabled"].includes(text) ? text : undefined),
    refusal: "invalid value. Use Enabled or Disabled to set kubevirt-ip-persistence",
  },
  {
    flag: "ip-cooldown-seconds",
    member: "ipCooldownSeconds",
    told: "IPCooldownSeconds",
    read: (text) => (/^\d+$/.test(text) ? Number(text) : undefined),
    refusal: "invalid value for ip-cooldown-seconds. Use a valid number",
  },
];

/** `ipam configure`: changes the settings that allocation reads, `/calico/ipam/v2/config`. */
export const ipamConfigure: Command = {
  words: ["ipam", "configure"],
  summary: "Change the settings of address management",
  usage: "",
  flags: [
    { name: "strictaffinity", value: "BOOL", help: "only the owner of a block takes addresses of it" },
    { name: "max-blocks-per-host", value: "N", help: "most blocks of a node; needs strict affinity; 0 = no limit" },
    { name: "kubevirt-ip-persistence", value: "WORD", help: "Enabled or Disabled" },
    { name: "ip-cooldown-seconds", value: "N", help: "how long a released address rests" },
  ],
  examples: ["ipam configure --strictaffinity=true"],
  run,
};

async function run(call: Call): Promise<number> {
  const changes = settings.flatMap((setting) => {
    const text = call.flags.text(setting.flag);
    if (text === undefined) return [];
    const value = setting.read(text);
    if (value === undefined) throw badInput(setting.refusal);
    return [{ setting, value }];
  });
  if (changes.length === 0) throw badInput("at least one configuration option must be specified");
  const { store } = await call.resources();
  const { changeIpamConfig } = await import("../ipam_settings.ts");
  await changeIpamConfig(store, Object.fromEntries(changes.map(({ setting, value }) => [setting.member, value])));
  for (const { setting, value } of changes) call.surroundings.out(`Successfully set ${setting.told} to: ${value}\n`);
  return 0;
}
