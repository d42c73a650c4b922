"""A small table whose times follow from its decisions, and are told by its features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from costmodels.features import FEATURE_LENGTH
from familyseer.laboratory.tables import NetworkTable, Recorded
from familyseer.search._decisions import TILE, DecisionSpace, Slot


def make_recorded(name: str, extent: int, count: int, seed: int, weight: int = 1) -> Recorded:
    """One subgraph: fastest with 16 innermost and 4 beside it, one in ten candidates fails."""
    rng = np.random.default_rng(seed)
    slots = (
        Slot(TILE, "SamplePerfectTile", 0, 4, extent, 64),
        Slot(TILE, "SamplePerfectTile", 4, 2, extent, 64),
    )
    space = DecisionSpace(slots)
    vectors = np.stack([space.sample(rng) for _ in range(count)])
    logs = np.log2(vectors)
    gap = np.abs(logs[:, 3] - 4) + np.abs(logs[:, 2] - 2) + 0.5 * np.abs(logs[:, 5] - 3)
    seconds = 1e-5 * extent * np.exp2(0.5 * gap + rng.uniform(0.0, 0.1, count))
    rows = np.zeros((count, FEATURE_LENGTH), dtype=np.float32)
    rows[:, : logs.shape[1]] = logs
    # the analytic estimate knows half of it
    rows[:, -1] = -4.0 - np.abs(logs[:, 3] - 4) + rng.normal(0.0, 0.7, count)
    failed = rng.random(count) < 0.1
    return Recorded(
        key=f"{seed:064x}",
        name=name,
        weight=weight,
        flops=2.0 * extent**2,
        families={"op": "dense", "none": name},
        sketches=(slots,),
        rows=rows,
        seconds=np.where(failed, np.inf, seconds),
        build_s=np.where(failed, 0.0, 0.25),
        sketch=np.zeros(count, dtype=np.int64),
        decisions=vectors.astype(np.int32),
        drawn=np.arange(count) < 0.75 * count,
    )


def make_table(counts: tuple[int, ...] = (120, 100, 80)) -> NetworkTable:
    extents = (256, 512, 1024)
    return NetworkTable(
        "small",
        {"cpu": "imagined", "cores": 2},
        [
            make_recorded(f"dense_{extent}", extent, count, seed, weight=1 + seed)
            for seed, (extent, count) in enumerate(zip(extents, counts, strict=False))
        ],
    )


def without_features(table: NetworkTable, seed: int = 99) -> NetworkTable:
    """The same candidates and times, each told by the features of another candidate."""
    rng = np.random.default_rng(seed)
    return replace(
        table,
        subgraphs=[replace(r, rows=rng.permutation(r.rows, axis=0)) for r in table.subgraphs],
    )
