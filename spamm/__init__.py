"""SpAMM: products of near-sparse matrices that skip what is too small to matter."""
