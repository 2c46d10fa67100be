import { emulatedTest } from "../lab/qemu/emulated_test_case.ts";

await emulatedTest({
  name:
    "WireGuard encrypts pods' packets in a kernel that has it; a key changes without loss; mandatory lets nothing out in clear",
  module: "wireguard",
  program: "tests/system/_emulated_wireguard.ts",
  parts: 10,
});
