/**
 * The demo of a tunnel that not every kernel has: `tunnels.ts ipip|wireguard`, started by demo.ts where the kernel has it, an
 * emulated one if need be. Two hosts with a `tortie node` and a pod each, wired by the CNI plugin alone.
 */
import { messageOf } from "../../lib/problem.ts";
import { Capture, type Captured } from "../lab/capture.ts";
import { makeOverlay, type Overlay, type OverlayPod } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";
import { Story } from "./story.ts";

/** Modes that are shown here. */
export const tunnelModes = ["ipip", "wireguard"] as const;
/** One of them. */
export type TunnelMode = typeof tunnelModes[number];

/** No BIRD, one IP version, one variant of iptables: in emulation every started program counts. */
const lean = { CALICO_NETWORKING_BACKEND: "vxlan", FELIX_IPV6SUPPORT: "false", FELIX_IPTABLESBACKEND: "NFT" };
const environment: Record<TunnelMode, Record<string, string>> = {
  ipip: { ...lean, CALICO_IPV4POOL_IPIP: "Always" },
  // The pool has no encapsulation: WireGuard is all that is needed.
  wireguard: { ...lean, TORTIE_WIREGUARD_MANDATORY: "true" },
};

/** Tells the story of a mode. @returns exit code. */
async function main([mode]: string[]): Promise<number> {
  const story = new Story();
  try {
    await tell(story, mode as TunnelMode);
  } catch (error) {
    story.check("the demo went through", false, messageOf(error));
  }
  return story.end();
}

async function tell(story: Story, mode: TunnelMode): Promise<void> {
  story.step("two hosts on a wire with a `tortie node` each, beside them an etcd");
  await using overlay = await makeOverlay({ hosts: 2, prefix: "demo", env: environment[mode], together: true });
  story.step("a pod on each, by one call of the CNI plugin");
  const pods = await Promise.all([0, 1].map((host) => overlay.pod(host, `web-${host + 1}`)));
  for (const { name, host, addresses } of pods) story.say(`${name}  ${host.name}  ${addresses.join(" ")}`);
  await (mode === "ipip" ? ipip : wireguard)(story, overlay, pods);
  await agentKilled(story, overlay, pods);
}

/** Through tunl0, and without it once the pool says that neighbours need none. */
async function ipip(story: Story, overlay: Overlay, pods: OverlayPod[]): Promise<void> {
  const [host] = overlay.lab.hosts, isIpip = (p: Captured) => p.protocol === 4 && p.inner !== undefined;
  story.step("the wire between the hosts while pods talk: IPIP");
  await onTheWire(story, overlay, pods, "IPIP", isIpip);
  story.show("ip -d addr show dev tunl0", await host!.runOk("ip", ["-d", "addr", "show", "dev", "tunl0"]));
  story.show("ip route", await host!.runOk("ip", ["route"]));
  story.step("CrossSubnet: hosts of one subnet need no tunnel");
  await overlay.patch("ippool", "default-ipv4-ippool", { ipipMode: "CrossSubnet" });
  await wait("plain routes", async () => !/tunl0/.test(await host!.runOk("ip", ["route"])), { deadlineMs: 20_000 });
  await onTheWire(story, overlay, pods, "no tunnel", (p) => p.protocol === 1);
}

/** In clear, then encrypted by one switch; from then on nothing leaves in clear whatever happens to the device. */
async function wireguard(story: Story, overlay: Overlay, pods: OverlayPod[]): Promise<void> {
  const [host] = overlay.lab.hosts;
  const isEncrypted = (p: Captured) => p.protocol === 17 && p.port === 51820;
  story.step("the wire between the hosts while pods talk: a pool without encapsulation");
  await onTheWire(story, overlay, pods, "no tunnel", (p) => p.protocol === 1);
  story.step("one switch: wireguardEnabled");
  await overlay.patch("felixconfiguration", "default", { wireguardEnabled: true });
  await wait("the hosts to know each other's keys", async () => {
    const peers = await Promise.all(overlay.lab.hosts.map((h) => h.run("wg", ["show", "wireguard.cali", "peers"])));
    return peers.every(({ stdout }) => stdout.trim() !== "");
  }, { deadlineMs: 30_000 });
  await onTheWire(story, overlay, pods, "WireGuard", isEncrypted);
  story.show("wg show", (await host!.run("wg", ["show"])).stdout);
  story.show("ip rule; ip route show table 1", await host!.runOk("sh", ["-c", "ip rule; ip route show table 1"]));
  story.step("mandatory: the device is taken away under traffic, three times");
  using wire = new Capture(overlay.lab.wire.path, host!.name);
  const pings = pods[0]!.ping(pods[1]!.addresses[0]!, { count: 60, everyS: 0.05 });
  for (let i = 0; i < 3; i++) {
    await host!.runOk("ip", ["link", "del", "wireguard.cali"]);
    await wait("the device", async () => (await host!.run("ip", ["link", "show", "wireguard.cali"])).code === 0);
  }
  story.say(`${await pings} of 60 pings came back`);
  const clear = wire.take().filter((p) => isOf(pods, p));
  story.check("nothing left in clear", clear.length === 0, `${clear.length} packets`);
  await reaches(pods[0]!, pods[1]!);
}

/** Pings between the hosts' pods, and what carries them. */
async function onTheWire(
  story: Story,
  { lab }: Overlay,
  pods: OverlayPod[],
  what: string,
  isExpected: (p: Captured) => boolean,
): Promise<void> {
  await reaches(pods[0]!, pods[1]!);
  using wire = new Capture(lab.wire.path, lab.hosts[0]!.name);
  await pods[0]!.ping(pods[1]!.addresses[0]!, { count: 3 });
  const hosts = lab.hosts.map((h) => h.address), seen = wire.take();
  const carried = seen.filter((p) =>
    isExpected(p) && (isOf(pods, p) || (p.inner ? isOf(pods, p.inner) : isOf(hosts, p)))
  );
  const clear = seen.filter((p) => isOf(pods, p) && !isExpected(p));
  for (const { from, to, protocol, port, bytes, inner } of carried.slice(0, 2)) {
    const inside = inner ? `  { ${inner.from} > ${inner.to} }` : "";
    story.say(`${from} > ${to}  protocol ${protocol}${port ? ` port ${port}` : ""}  ${bytes} bytes${inside}`);
  }
  story.check(`pods' packets travel in ${what}`, carried.length >= 6, `${carried.length} packets`);
  story.check("and in no other way", clear.length === 0, `${clear.length} packets`);
}

function isOf(who: OverlayPod[] | string[], { from, to }: Captured): boolean {
  return who.some((w) => {
    const addresses = typeof w === "string" ? [w] : w.addresses;
    return addresses.includes(from) || addresses.includes(to);
  });
}

/** The tunnel is the kernel's: it outlives who made it. */
async function agentKilled(story: Story, { nodes }: Overlay, pods: OverlayPod[]): Promise<void> {
  story.step("kill -9 of h1's agent");
  await nodes[0]!.process.kill("SIGKILL");
  const received = await pods[0]!.ping(pods[1]!.addresses[0]!, { count: 20 });
  story.check("pings lost nothing", received === 20, `${received} of 20`);
}

const reaches = (from: OverlayPod, to: OverlayPod): Promise<boolean> =>
  wait("a ping", async () => await from.ping(to.addresses[0]!) === 1, { deadlineMs: 30_000 }).then(
    () => true,
    () => false,
  );

if (import.meta.main) Deno.exit(await main(Deno.args));
