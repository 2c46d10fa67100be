import type { Command } from "../command.ts";
import { apply } from "./apply.ts";
import { create } from "./create.ts";
import { lock, unlock } from "./datastore_lock.ts";
import { remove } from "./delete.ts";
import { get } from "./get.ts";
import { ipamConfigure } from "./ipam_configure.ts";
import { ipamRelease } from "./ipam_release.ts";
import { ipamShow } from "./ipam_show.ts";
import { ipamSplit } from "./ipam_split.ts";
import { label } from "./label.ts";
import { nodeStatus } from "./node_status.ts";
import { patch } from "./patch.ts";
import { policyNames } from "./policy_names.ts";
import { replace } from "./replace.ts";
import { validate } from "./validate.ts";
import { version } from "./version.ts";

/** All commands, in the order of the overview. */
export const commands: readonly Command[] = [
  get,
  create,
  apply,
  replace,
  patch,
  remove,
  label,
  validate,
  ipamShow,
  ipamRelease,
  ipamConfigure,
  ipamSplit,
  nodeStatus,
  lock,
  unlock,
  policyNames,
  version,
];
