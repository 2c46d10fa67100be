/** `tortie cni`, and the binary run as `calico` or with CNI_COMMAND set: one call of the CNI main plugin. */
export function cni(_args: string[]): Promise<number> {
  throw new Error("not built yet");
}

/** `tortie ipam`, and the binary run as `calico-ipam` or `tortie-ipam`: one call of the IPAM plugin. */
export function ipam(_args: string[]): Promise<number> {
  throw new Error("not built yet");
}
