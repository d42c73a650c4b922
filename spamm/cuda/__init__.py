"""SpAMM on NVIDIA GPUs: kernels generated as CUDA C++ text, and what compiles and runs them."""
