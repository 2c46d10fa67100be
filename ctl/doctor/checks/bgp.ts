import { check } from "../check.ts";

/** BIRD and its sessions. */
export const bgpChecks = [
  check({
    id: "bird-away",
    about: "BIRD runs where routes go by BGP",
    looksAt: ["bird"],
    fault: "BIRD does not answer, so no routes are exchanged",
    cure:
      "`systemctl restart tortie-bird`; without systemd the agent starts it (package bird2). `bird -p -c {config}` " +
      "judges the configuration. Set CALICO_NETWORKING_BACKEND to vxlan or none where no BGP is wanted.",
    find: ({ bird }) => bird.wanted && !bird.running ? [{ config: bird.configFile }] : [],
  }),
  check({
    id: "session-down",
    about: "every BGP session is established",
    looksAt: ["bird"],
    fault: "the BGP session with {peer} ({name}) is {state}{why}",
    cure: "See that the peer runs, that TCP port 179 passes both ways, and that AS numbers and passwords agree " +
      "(`birdc -s /run/tortie/bird.ctl show protocols all {name}`).",
    find: ({ bird }) =>
      bird.sessions.filter(({ name, state }) => state !== "Established" && !isWaitedFor(name)).map((s) => ({
        ...{ name: s.name, peer: s.peer, state: s.state },
        why: s.lastError ? `: ${s.lastError}` : "",
      })),
  }),
  check({
    id: "bird-text-foreign",
    about: "BIRD runs a configuration of ours",
    looksAt: ["bird"],
    fault: "the BIRD that answers runs a configuration that is not ours",
    cure:
      "Somebody loaded another file into it. `systemctl restart tortie-bird tortie`, and start own instances of BIRD with " +
      "another control socket (`bird -s`).",
    find: ({ bird }) => bird.running && bird.runningText === "" ? [{}] : [],
  }),
  check({
    id: "bird-config-edited",
    about: "BIRD's configuration file is as it was written",
    looksAt: ["bird"],
    fault: "{config} was changed by hand",
    cure:
      "Settings belong into BGPConfiguration, BGPPeer and BGPFilter; `systemctl restart tortie` writes the file again.",
    find: ({ bird }) => bird.edited ? [{ config: bird.configFile }] : [],
  }),
  check({
    id: "bird-text-stale",
    about: "BIRD runs what its file says",
    looksAt: ["bird"],
    fault: "BIRD runs an older configuration than the one in {config}",
    cure:
      "`birdc -s /run/tortie/bird.ctl configure` tells what it objects to; the agent tries again at the next change.",
    find: ({ bird: { running, runningText, fileText, edited, configFile } }) =>
      running && runningText && fileText && fileText !== runningText && !edited ? [{ config: configFile }] : [],
  }),
];

/** A pod that may speak BGP need not do so. */
const isWaitedFor = (name: string): boolean => name.startsWith("Local_Workload");
