/** Which of our two plugins was called: the main one (`calico`) or the one for addresses alone (`calico-ipam`). */
export type PluginName = "cni" | "ipam";

/** One call as the plugin sends it to the agent. */
export interface PluginRequest {
  plugin: PluginName;
  /** The plugin's whole environment. */
  env: Record<string, string>;
  /** CNI_NETNS as a path that means the same in another process. */
  netns: string;
  stdin: string;
}

/** What the plugin does then: print and exit. */
export interface PluginAnswer {
  exit: number;
  stdout: string;
  stderr: string;
}
