"""What the fork server imports once, so that every worker starts with TVM in memory."""

import familyseer.measure._jobs
from familyseer.tvm_env import load_tvm

load_tvm(intrinsics=True)
