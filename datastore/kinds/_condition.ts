import { always, integer64, object, text } from "../schema/fields.ts";

/** A Kubernetes status condition. */
export const condition = () =>
  object({
    type: always(text()),
    status: always(text()),
    observedGeneration: integer64(),
    lastTransitionTime: text(),
    reason: always(text()),
    message: always(text()),
  });
