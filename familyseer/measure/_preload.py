"""What the fork server imports once, so that every worker starts with TVM in memory."""

from familyseer.tvm_env import load_tvm

load_tvm(intrinsics=True)
