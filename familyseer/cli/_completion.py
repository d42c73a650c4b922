"""What a shell offers after Tab; quick, so nothing heavy is imported to tell."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem

_SUFFIXES = (".onnx", ".pt2")
# A selection: TVM has hundreds, and must be imported to list them.
TARGETS = (
    "llvm",
    "cuda",
    "nvidia/nvidia-h200",
    "nvidia/nvidia-h100",
    "nvidia/nvidia-a100",
    "nvidia/nvidia-a40",
    "nvidia/nvidia-a30",
    "nvidia/nvidia-a10g",
    "nvidia/nvidia-t4",
    "nvidia/nvidia-v100",
    "nvidia/geforce-rtx-3090",
    "nvidia/geforce-rtx-3080",
    "nvidia/geforce-rtx-2080-ti",
    "nvidia/jetson-agx-orin-64gb",
    "nvidia/jetson-agx-xavier",
    "aws/cpu/c5.large",
    "aws/cpu/c5.xlarge",
    "aws/cpu/c5.9xlarge",
    "raspberry-pi/4b-aarch64",
)


def models(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Networks of the zoo, model files, and folders on the way to some."""
    from familyseer.models import zoo

    names = [CompletionItem(name) for name in zoo.names() if name.startswith(incomplete)]
    # the shell completes folders by itself, and forgets what came before it is told so
    return [CompletionItem(incomplete, type="dir"), *names, *_model_files(incomplete)]


def folders(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Folders alone, such as those that runs write."""
    return [CompletionItem(incomplete, type="dir")]


def targets(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Kinds and tags that a target may be."""
    return [CompletionItem(name) for name in TARGETS if name.startswith(incomplete)]


def tuners(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Tuners with commas between, each once."""
    from familyseer.tuners import TUNERS

    *given, last = incomplete.split(",")
    before = "".join(f"{name}," for name in given)
    left = [name for name in TUNERS if name.startswith(last) and name not in given]
    return [CompletionItem(before + name) for name in left]


def _model_files(incomplete: str) -> list[CompletionItem]:
    folder, begun = os.path.split(incomplete)
    try:
        names = sorted(one.name for one in Path(folder or ".").expanduser().iterdir())
    except OSError:
        return []
    return [
        CompletionItem(os.path.join(folder, name))
        for name in names
        if name.endswith(_SUFFIXES) and name.startswith(begun)
    ]
