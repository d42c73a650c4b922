"""Operators and schedule rules given to TVM."""
