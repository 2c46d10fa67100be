import { check } from "../check.ts";

/** Credentials are told of so long before they expire, in ms. */
const soonMs = 14 * 24 * 3_600_000;
const dayMs = 24 * 3_600_000;

/** What the container runtime finds, and the files that let us in. */
export const cniChecks = [
  check({
    id: "cni-config-missing",
    about: "the runtime has a network configuration of ours",
    looksAt: ["cni"],
    fault: "no configuration in {dir} names our plugin: pods get no network, or another one",
    cure: "`tortie install` writes 10-calico.conflist.",
    find: ({ cni }) => cni.files.some((file) => isOurs(file)) ? [] : [{ dir: cni.confDir }],
  }),
  check({
    id: "cni-config-shadowed",
    about: "our network configuration is the first",
    looksAt: ["cni"],
    fault: "{dir}/{first} sorts before {ours}: the runtime takes it, and pods do not get our network",
    cure:
      "Remove {dir}/{first}, or the program that writes it; pods that were made meanwhile have to be started again.",
    find({ cni }) {
      const first = cni.files.find(({ broken }) => broken === undefined), ours = cni.files.find((file) => isOurs(file));
      return first && ours && first !== ours ? [{ dir: cni.confDir, first: first.name, ours: ours.name }] : [];
    },
  }),
  check({
    id: "cni-config-unreadable",
    about: "network configurations can be read",
    looksAt: ["cni"],
    fault: "{dir}/{name} cannot be read: {why}",
    cure: "Correct it, or remove it; `tortie install` writes ours again.",
    find: ({ cni }) =>
      cni.files.flatMap(({ name, broken }) => broken === undefined ? [] : [{ dir: cni.confDir, name, why: broken }]),
  }),
  check({
    id: "cni-plugin-missing",
    about: "the plugins that our configuration names are there",
    looksAt: ["cni"],
    fault: "{dir}/{name} {what}: every new pod fails",
    cure:
      "`tortie install` makes the links {dir}/calico and {dir}/calico-ipam; portmap and bandwidth are in the package " +
      "containernetworking-plugins.",
    find: ({ cni }) =>
      [...cni.plugins].flatMap(([name, program]) => {
        if (program === undefined) return [{ dir: cni.binDir, name, what: "does not exist" }];
        const isCalicos = /^calico(-ipam)?$/.test(name) && !/tortie|calico/.test(program.split("/").at(-1)!);
        return isCalicos ? [{ dir: cni.binDir, name, what: `leads to ${program}, which is not our program` }] : [];
      }),
  }),
  check({
    id: "cni-dir-elsewhere",
    about: "the runtime looks where our configuration is",
    looksAt: ["cni"],
    fault: "{said} lets the runtime look into {dir}, and our configuration is in {ours}",
    cure:
      "Set conf_dir to {ours} there, or install with `tortie install --cni-conf-dir {dir}`; then restart the runtime.",
    find: ({ cni }) =>
      cni.runtimeDirs.filter(({ dir }) => dir !== cni.confDir).map(({ dir, saidIn }) => ({
        ...{ said: saidIn, dir, ours: cni.confDir },
      })),
  }),
  check({
    id: "credential-unusable",
    about: "keys, certificates and tokens can be used",
    looksAt: ["credentials"],
    fault: "{file}, for {use}, cannot be used: {why}",
    cure: "Put the right file there, readable for root; for tokens of Kubernetes see the service account's.",
    find: ({ credentials }) =>
      credentials.flatMap(({ file, usedFor, problem }) => problem ? [{ file, use: usedFor, why: problem }] : []),
  }),
  check({
    id: "credential-expiring",
    about: "no certificate or token is about to expire",
    looksAt: ["credentials"],
    fault: "{file}, for {use}, {when}",
    cure: "Renew it and put it into the same place: files are read again at each new connection.",
    find: ({ credentials }) =>
      credentials.flatMap(({ file, usedFor, expiresMs, nowMs }) => {
        if (expiresMs === undefined || expiresMs - nowMs > soonMs) return [];
        const days = Math.floor((expiresMs - nowMs) / dayMs);
        return [{ file, use: usedFor, when: days < 0 ? "has expired" : `expires in ${days} day(s)` }];
      }),
  }),
];

const isOurs = ({ plugins }: { plugins: readonly string[] }): boolean => plugins.includes("calico");
