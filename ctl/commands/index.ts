import type { Command } from "../command.ts";
import { apply } from "./apply.ts";
import { confirm } from "./confirm.ts";
import { create } from "./create.ts";
import { clusterDiags } from "./cluster_diags.ts";
import { completion } from "./completion.ts";
import { migrateCopy } from "./datastore_copy.ts";
import { lock, migrateExport, migrateImport, unlock } from "./datastore_migrate.ts";
import { remove } from "./delete.ts";
import { diff } from "./diff.ts";
import { doctor } from "./doctor.ts";
import { edit } from "./edit.ts";
import { get } from "./get.ts";
import { history } from "./history.ts";
import { ipamConfigure } from "./ipam_configure.ts";
import { ipamCheck } from "./ipam_check.ts";
import { ipamGc } from "./ipam_gc.ts";
import { ipamRelease } from "./ipam_release.ts";
import { ipamShow } from "./ipam_show.ts";
import { ipamSplit } from "./ipam_split.ts";
import { label } from "./label.ts";
import { nodeStatus } from "./node_status.ts";
import { nodeCheckSystem, nodeDiags, nodeRun } from "./node_system.ts";
import { patch } from "./patch.ts";
import { policyNames } from "./policy_names.ts";
import { replace } from "./replace.ts";
import { rollback } from "./rollback.ts";
import { validate } from "./validate.ts";
import { stagedApply } from "./staged_apply.ts";
import { top } from "./top.ts";
import { drops, watchDrops } from "./watch_drops.ts";
import { why } from "./why.ts";
import { version } from "./version.ts";

/** All commands, in the order of the overview. */
export const commands: readonly Command[] = [
  get,
  create,
  apply,
  confirm,
  replace,
  patch,
  edit,
  remove,
  label,
  history,
  rollback,
  validate,
  ipamShow,
  ipamCheck,
  ipamGc,
  ipamRelease,
  ipamConfigure,
  ipamSplit,
  nodeStatus,
  nodeCheckSystem,
  nodeDiags,
  nodeRun,
  clusterDiags,
  lock,
  unlock,
  migrateExport,
  migrateImport,
  migrateCopy,
  policyNames,
  completion,
  doctor,
  why,
  stagedApply,
  top,
  watchDrops,
  drops,
  diff,
  version,
];
