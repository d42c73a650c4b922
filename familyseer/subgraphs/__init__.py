"""From a Relax module to the subgraphs (MetaSchedule tasks) that are tuned."""

from familyseer.subgraphs._extract import Subgraph, extract_subgraphs, subgraph_key, subgraphs_of
from familyseer.subgraphs._lower import fuse

__all__ = ["Subgraph", "extract_subgraphs", "fuse", "subgraph_key", "subgraphs_of"]
