"""What the fork server imports once, so that every worker starts with TVM in memory."""

from familyseer._without_torch import leave_torch_out
from familyseer.tvm_env import load_tvm

leave_torch_out()
load_tvm(intrinsics=True)
