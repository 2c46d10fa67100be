/** Where the installed parts lie, as units and CNI configuration name them. */
export interface UnitPaths {
  /** The program. */
  binary: string;
  /** Environment file with the settings. */
  environmentFile: string;
  /** BIRD's program. */
  bird: string;
}

/** The places of an installation with default options. */
export const defaultUnitPaths: UnitPaths = {
  binary: "/usr/local/bin/tortie",
  environmentFile: "/etc/tortie/tortie.env",
  bird: "/usr/sbin/bird",
};

/** Names of the units that are enabled, in the order of starting. */
export const enabledUnits = ["tortie.service", "tortie-bird.path"] as const;

/** All units by file name. The files in `systemd/` are these texts with the default paths. */
export const units = (paths: UnitPaths): Record<string, string> => ({
  "tortie.service": nodeUnit(paths),
  "tortie-store.service": storeUnit(paths),
  "tortie-bird.service": birdUnit(paths),
  "tortie-bird.path": birdPathUnit,
});

/**
 * argv[0] is calico-felix, since Calico's `calicoctl node status` looks for a process of that name. Only what the agent
 * really needs is left open: it enters network namespaces of pods, writes sysctls, loads iptables' modules and may kill a
 * BIRD that lost its socket. The runtime makes code in memory, so write-and-execute stays allowed. It goes before others
 * (Nice): two hundred plugins that start at once wait for it, and would starve it. At a boot it comes before the network, and
 * says when its rules are in force (a helper says it, hence NotifyAccess): the last known ones, for no datastore can be
 * reached yet. Of a host that it knows nothing about it holds up the boot for ten seconds.
 */
const nodeUnit = ({ binary, environmentFile }: UnitPaths): string =>
  `[Unit]
Description=tortie node agent: addresses, interfaces and routes of pods
Wants=network-pre.target tortie-store.service
Before=network-pre.target
After=tortie-store.service

[Service]
Type=notify
NotifyAccess=all
EnvironmentFile=-${environmentFile}
Environment=TORTIE_BIRD_STARTED_BY=systemd TORTIE_STORE_STARTED_BY=systemd
ExecStart=@${binary} calico-felix node
Restart=always
RestartSec=1
KillMode=mixed
Nice=-5
LimitNOFILE=65536
RuntimeDirectory=tortie calico
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
StateDirectory=calico
StateDirectoryMode=0755

CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_MODULE CAP_DAC_OVERRIDE CAP_KILL CAP_BPF CAP_PERFMON
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=read-only
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=net mnt
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service @module bpf
SystemCallErrorNumber=EPERM
UMask=0022

[Install]
WantedBy=multi-user.target
`;

/** What neither the store nor BIRD needs of the host. */
const confined = `NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
LockPersonality=yes
`;

/**
 * The store outlives the agent, too. It is wanted by the agent's unit and skipped unless the settings say "embedded". It needs
 * its file and its socket, and no capability: both belong to root.
 */
const storeUnit = ({ binary, environmentFile }: UnitPaths): string =>
  `[Unit]
Description=tortie store: the datastore of a host without etcd
Before=tortie.service
StartLimitIntervalSec=0

[Service]
Type=exec
EnvironmentFile=-${environmentFile}
ExecCondition=/bin/sh -c '[ "$TORTIE_DATASTORE" = embedded ]'
ExecStart=${binary} store
Restart=always
RestartSec=1
LimitNOFILE=65536
RuntimeDirectory=tortie
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
StateDirectory=tortie
StateDirectoryMode=0700

CapabilityBoundingSet=
${confined}RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
`;

/**
 * BIRD outlives the agent. It is stopped like a crash, so that peers and the kernel keep the routes until it is back
 * (graceful restart).
 */
const birdUnit = ({ bird }: UnitPaths): string =>
  `[Unit]
Description=BIRD routing daemon of tortie
After=network.target
ConditionPathExists=/run/tortie/bird.conf
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=@${bird} bird -f -R -c /run/tortie/bird.conf -s /run/tortie/bird.ctl -P /run/tortie/bird.pid
KillSignal=SIGKILL
Restart=always
RestartSec=1
LimitNOFILE=65536
RuntimeDirectory=tortie
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes

CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE
${confined}MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0022
`;

/** Starts BIRD as soon as the agent has written a configuration that BIRD takes. */
const birdPathUnit = `[Unit]
Description=Start BIRD when tortie has written its configuration

[Path]
PathExists=/run/tortie/bird.conf
Unit=tortie-bird.service

[Install]
WantedBy=multi-user.target
`;
