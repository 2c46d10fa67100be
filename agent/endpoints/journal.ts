import type { Attachment } from "./attachment.ts";

/**
 * An attachment that must not exist any more: a DEL that etcd has not seen, or an ADD that has not ended. Replaying it
 * removes what is left of it and cannot touch a newer sandbox: addresses are found by the container's handle, the
 * endpoint goes only when its containerID is this one, the link only when its MAC is the one that this ADD chose.
 */
export interface JournalEntry {
  attachment: Attachment;
  /** etcd key of its WorkloadEndpoint. */
  endpointKey: string;
  /** CNI_NETNS as the ADD had it, and the MAC chosen for the pod's side; absent for a DEL, which removes the link first. */
  netns?: string;
  mac?: string;
  /** RFC 3339. */
  time: string;
  /** "add" while the ADD runs (or died); "delete" once it must go whatever happens. */
  because: "add" | "delete";
}

/** Where entries lie unless told otherwise; the CNI plugin writes here too when no agent answers. */
export const journalDir = "/var/lib/tortie/pending-del";

/** The entries on disk, one file each. */
export class Journal {
  constructor(readonly dir: string = journalDir) {}
}
