import type { Host, HostProcess } from "../lab/host.ts";
import { wait } from "../lab/wait.ts";

/** A program that writes firewall rules on the same host. */
export interface Neighbour {
  name: string;
  /** Debian's package. */
  package: string;
  /** Starts it; true when it works. */
  start(host: Host): Promise<void>;
  /** What an operator does to it, and it then writes its rules anew. */
  reload(host: Host): Promise<void>;
  stop(host: Host): Promise<void>;
  /** Chains or tables that it makes, so that we know that it is there. */
  marks: RegExp;
  /** It has rules in a table of its own that let nothing pass which it does not know: no rule of ours can allow that. */
  refusesByItself?: true;
  /** It empties all tables of iptables, those of others too; until we have written ours again they let everything pass. */
  emptiesTables?: true;
}

const sh = (host: Host, text: string) => host.runOk("sh", ["-c", text], { timeoutMs: 60_000 });
const untilDone = (what: string, work: () => Promise<unknown>) =>
  wait(what, async () => {
    await work();
    return true;
  }, { deadlineMs: 20_000, everyMs: 200 });

/** A neighbour that is one process of the host. */
function daemon(
  parts: Omit<Neighbour, "start" | "stop" | "reload"> & {
    words: string[];
    env?: Record<string, string>;
    before?: string;
    /** Fails until it works. */
    ready: string;
    /** Default: it is killed and started again. */
    reload?: string;
    after?: string;
  },
): Neighbour {
  const running = new Map<Host, HostProcess>();
  const start = async (host: Host) => {
    if (parts.before) await sh(host, parts.before);
    const [program, ...args] = parts.words;
    running.set(host, await host.start(parts.name, program!, args, parts.env));
    await untilDone(`${parts.name} to work`, () => sh(host, parts.ready));
  };
  const stop = async (host: Host) => {
    await running.get(host)?.kill("SIGTERM");
    running.delete(host);
    if (parts.after) await sh(host, parts.after);
  };
  return {
    ...parts,
    start,
    stop,
    async reload(host) {
      if (parts.reload) return void await sh(host, parts.reload);
      await running.get(host)?.kill();
      await start(host);
    },
  };
}

/** The programs, as Debian ships them. */
export const neighbours: Neighbour[] = [
  daemon({
    name: "docker",
    package: "docker.io",
    words: ["dockerd", "--storage-driver", "vfs", "--containerd", "/run/nb-containerd.sock"],
    before: "rm -f /run/docker.pid /var/run/docker.pid; test -S /run/nb-containerd.sock || { containerd --address " +
      "/run/nb-containerd.sock --root /tmp/nb-root --state /tmp/nb-state >/tmp/containerd.log 2>&1 & }",
    ready: "docker info >/dev/null && iptables -S DOCKER-USER >/dev/null",
    marks: /DOCKER-USER/,
  }),
  {
    name: "ufw",
    package: "ufw",
    start: async (host) => void await sh(host, "ufw allow 8001/tcp && ufw --force enable"),
    reload: async (host) => void await sh(host, "ufw reload"),
    stop: async (host) => void await sh(host, "ufw --force disable"),
    marks: /ufw-before-input/,
  },
  daemon({
    name: "fail2ban",
    package: "fail2ban",
    words: ["fail2ban-server", "-xf", "start"],
    before: "mkdir -p /run/fail2ban && rm -f /run/fail2ban/* && touch /tmp/auth.log && printf '%s\\n' '[DEFAULT]' " +
      "'banaction = iptables-multiport' '[sshd]' 'enabled = true' 'backend = polling' 'logpath = /tmp/auth.log' " +
      "'ignoreself = false' > /etc/fail2ban/jail.local",
    ready: "fail2ban-client status sshd && fail2ban-client set sshd banip 198.51.100.9 && iptables -S f2b-sshd",
    marks: /f2b-sshd/,
  }),
  daemon({
    name: "libvirt",
    package: "libvirt-daemon",
    words: ["libvirtd"],
    before:
      "getent group libvirt-qemu >/dev/null || groupadd -r libvirt-qemu; getent group libvirt >/dev/null || groupadd -r " +
      "libvirt; getent passwd libvirt-qemu >/dev/null || useradd -r -g libvirt-qemu libvirt-qemu; mkdir -p /run/dbus; " +
      "test -S /run/dbus/system_bus_socket || dbus-daemon --system --fork",
    ready: "virsh -c network:///system net-info default | grep -q 'Active: *yes' || " +
      "virsh -c network:///system net-start default; iptables -S LIBVIRT_FWI >/dev/null",
    after: "pkill dnsmasq || true",
    marks: /LIBVIRT_FWI/,
  }),
  daemon({
    name: "firewalld",
    package: "firewalld",
    words: ["firewalld", "--nofork", "--nopid"],
    before: "mkdir -p /run/dbus; test -S /run/dbus/system_bus_socket || dbus-daemon --system --fork",
    ready: "firewall-cmd --state",
    reload: "firewall-cmd --reload",
    marks: /table inet firewalld/,
    refusesByItself: true,
    emptiesTables: true,
  }),
];
