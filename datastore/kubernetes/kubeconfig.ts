/** What a kubeconfig of ours says: one cluster, one user with a token. */
export interface Access {
  /** `https://host:port`. */
  server: string;
  /** PEM of the authority; absent = the system's. */
  ca?: string;
  token: string;
}

/** The first line of every kubeconfig of ours: only files that begin with it are ever rewritten. */
const mark = "# Written by tortie, which renews the token in it.";

/** The text of a kubeconfig. Its file holds a secret: mode 0600. */
export function kubeconfigText({ server, ca, token }: Access): string {
  return [
    ...[mark, "apiVersion: v1", "kind: Config", "current-context: tortie"],
    ...["clusters:", "- name: kubernetes", "  cluster:", `    server: ${JSON.stringify(server)}`],
    ...(ca === undefined ? [] : [`    certificate-authority-data: ${btoa(ca)}`]),
    ...["users:", "- name: tortie", "  user:", `    token: ${JSON.stringify(token)}`],
    ...["contexts:", "- name: tortie", "  context:", "    cluster: kubernetes", "    user: tortie", ""],
  ].join("\n");
}

/** True for what kubeconfigText() made. */
export const isOurKubeconfig = (text: string): boolean => text.startsWith(`${mark}\n`);
