import { deepEqual, equal, throws } from "node:assert/strict";
import { formatIp } from "../lib/ip.ts";
import { identifiersOf, readArgs, readEnvironment } from "./environment.ts";
import { Refusal } from "./refusal.ts";

const whole = {
  ...{ CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_NETNS: "/n", CNI_IFNAME: "eth0" },
  CNI_PATH: "/opt/cni/bin::/usr/lib/cni",
};
const refused = (env: Record<string, string>): string => {
  try {
    readEnvironment(env);
  } catch (error) {
    if (error instanceof Refusal && error.cniCode === 4) return error.what;
    throw error;
  }
  throw new Error("not refused");
};

Deno.test("readEnvironment() takes the variables, and the folders of CNI_PATH", () => {
  deepEqual(readEnvironment(whole), {
    ...{ command: "ADD", containerId: "c1", netns: "/n", interfaceName: "eth0", args: "" },
    path: ["/opt/cni/bin", "/usr/lib/cni"],
  });
});

Deno.test("readEnvironment() names all variables that a verb lacks, in skel's words", () => {
  const verbs = ["ADD", "DEL", "CHECK", "STATUS", "GC"].map((command) => refused({ CNI_COMMAND: command }));
  deepEqual(verbs, [
    "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
    "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing",
    "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
    "required env variables [CNI_PATH] missing",
    "required env variables [CNI_PATH] missing",
  ]);
  equal(refused({}), "unknown CNI_COMMAND: ");
  equal(refused({ CNI_COMMAND: "add" }), "unknown CNI_COMMAND: add");
  equal(readEnvironment({ CNI_COMMAND: "VERSION" }).command, "VERSION");
});

Deno.test("readEnvironment() refuses names that the kernel or a path could trip over", () => {
  for (const name of ["a/b", "a:b", "a b", "a\tb", ".", "..", "x".repeat(16), "ü".repeat(8)]) {
    refused({ ...whole, CNI_IFNAME: name });
  }
  equal(readEnvironment({ ...whole, CNI_IFNAME: "ü".repeat(7) }).interfaceName.length, 7);
  for (const id of ["-a", ".", "..", "a/b", "a,b", "a b", "é"]) refused({ ...whole, CNI_CONTAINERID: id });
});

Deno.test("readArgs() reads pairs, and an address", () => {
  const args = readArgs("IgnoreUnknown=TRUE;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n;IP=10.0.0.1;FOO=1;K8S_POD_UID=x", false);
  deepEqual([args.podName, args.podNamespace, formatIp(args.ip!)], ["p", "n", "10.0.0.1"]);
  deepEqual(readArgs("", false), { podName: "", podNamespace: "", podUid: "", ip: undefined, testNamespace: "" });
});

Deno.test("readArgs() refuses unknown keys unless told to ignore them, wherever that stands", () => {
  throws(() => readArgs("FOO=1", false), /unknown args/);
  readArgs("FOO=1;IgnoreUnknown=1", false);
  throws(() => readArgs("FOO=1;IgnoreUnknown=0", true), /unknown args/);
  for (const bad of ["A", "A=B=C", ";", "IP=1", "IgnoreUnknown="]) throws(() => readArgs(bad, true), Refusal, bad);
});

Deno.test("identifiersOf() is Kubernetes only with a pod's name and namespace", () => {
  const of = (text: string) => identifiersOf(readArgs(text, true), { containerId: "c", interfaceName: "eth0" }, "n");
  equal(of("K8S_POD_NAME=p;K8S_POD_NAMESPACE=s").orchestrator, "k8s");
  deepEqual(["K8S_POD_NAME=p", "K8S_POD_NAMESPACE=s", ""].map((t) => of(t).orchestrator), ["cni", "cni", "cni"]);
  equal(of("CNI_TEST_NAMESPACE=t").namespace, "t");
});
