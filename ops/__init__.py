"""Operators and schedule rules given to TVM; importing this checks TVM's version, not more."""

from familyseer.versions import TVM, check_once

check_once(*TVM)
