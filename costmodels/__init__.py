"""What predicts how fast a candidate runs: features, the model of a family, its store."""
