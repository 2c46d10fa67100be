import { readSysctl } from "./sysctl.ts";

/** What this kernel can do, as far as we do otherwise without it. */
export interface Features {
  /** `6.1.0-18-amd64`. */
  release: string;
  /** IPv6 is compiled in and not switched off at boot. */
  ipv6: boolean;
}

/** Asks the running kernel, in the calling thread's network namespace. */
export const kernelFeatures = (): Features => ({
  release: readSysctl("kernel/osrelease") ?? "",
  ipv6: readSysctl("net/ipv6/conf/all/forwarding") !== undefined,
});
