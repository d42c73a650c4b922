"""What the decisions of a run depended on, written down so that they can be made again."""
