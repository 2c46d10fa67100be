/** What one CNI call is about: a container's place in a network. Everything an endpoint owns hangs on it. */
export interface Attachment {
  /** Name of the CNI network. */
  network: string;
  containerId: string;
  /** CNI_IFNAME: the interface in the container. */
  interfaceName: string;
}

/** The IPAM handle of an attachment, `<network>.<containerID>`: the name its addresses are released by. */
export const handleOf = (a: { network: string; containerId: string }): string => `${a.network}.${a.containerId}`;

/** One text per attachment; for maps, locks and file names. CNI allows no comma in the first two parts. */
export const attachmentId = (a: Attachment): string => `${a.network},${a.containerId},${a.interfaceName}`;
