"""FamilySeer: tune models for TVM by families of subgraphs, inside a wall-clock budget."""
