"""``manifest.json``: what a run left in OUT, so that nothing else is loaded in its place.

A library is code. What is not the file that the run wrote is refused before it is loaded; who may
write both the library and its manifest is trusted.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from familyseer.errors import UserError
from familyseer.safe_json import load_json, save_json

log = logging.getLogger(__name__)

FORMAT = 1
NAME = "manifest.json"
LIBRARY = "model.so"
FILES = (LIBRARY, "tuning/database_workload.json", "tuning/database_tuning_record.json")
_WHAT = "the manifest of a tuning run"
_SIZE_LIMIT = 1 << 20
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def write_manifest(
    out: Path, *, target: Any, versions: Mapping[str, str], model_digest: str
) -> None:
    """Writes OUT/manifest.json for what is in OUT, whole or not at all.

    Parameters
    ----------
    target
        The TVM target that the library is built for.
    versions
        Package -> version, as in ``summary.json``.
    model_digest
        SHA-256 of the model that was tuned.

    Raises
    ------
    OSError
        A file cannot be read, or the manifest cannot be written.
    """
    save_json(
        out / NAME,
        {
            "format": FORMAT,
            "machine": _machine_of(target),
            "system": platform.system(),
            "target": str(target),
            "versions": dict(versions),
            "model": model_digest,
            # the databases grow when the run is resumed; theirs say what this library came from
            "files": {name: _describe(out / name) for name in FILES if (out / name).is_file()},
        },
    )


def remove_manifest(out: Path) -> None:
    """Removes the manifest, before the library is replaced by one that it does not know.

    Raises
    ------
    OSError
        It cannot be removed.
    """
    (out / NAME).unlink(missing_ok=True)


def read_manifest(out: Path) -> dict[str, Any] | None:
    """What OUT/manifest.json says; None where there is none.

    Raises
    ------
    UserError
        It is no manifest, or one of a newer format.
    """
    path = out / NAME
    if not path.exists():
        return None
    manifest = load_json(path, what=_WHAT, limit=_SIZE_LIMIT)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: has no format number, expected {_WHAT}")
    if version > FORMAT:
        raise UserError(
            f"{path}: format {version} is newer than {FORMAT}, the newest that this familyseer "
            "knows; upgrade familyseer to use this OUT"
        )
    files = manifest.get("files")
    library = files.get(LIBRARY) if isinstance(files, dict) else None
    texts = (manifest.get("machine"), manifest.get("system"))
    if not (_is_description(library) and all(isinstance(text, str) for text in texts)):
        raise UserError(f"{path}: does not describe {LIBRARY}, expected {_WHAT}")
    return dict(manifest)


def check_manifest(out: Path) -> None:
    """Makes sure that OUT's library is the one that its run wrote, for machines such as this one.

    An OUT without a manifest is accepted with a warning.

    Raises
    ------
    UserError
        The library was changed or cut short, or is for another kind of machine, or the manifest is
        none or of a newer format; one line that says what to do.
    """
    manifest = read_manifest(out)
    if manifest is None:
        log.warning(
            "%s: has no %s, %s is used unchecked; runs of this version write one",
            out,
            NAME,
            LIBRARY,
        )
        return
    built_for = (manifest["system"], manifest["machine"])
    here = (platform.system(), _machine(platform.machine()))
    if built_for != here:
        raise UserError(
            f"{out / LIBRARY}: built for {' '.join(built_for)[:80]}, this machine is "
            f"{' '.join(here)}; use it on such a machine, or tune the model on this one"
        )
    said = manifest["files"][LIBRARY]
    try:
        found = _describe(out / LIBRARY)
    except OSError as error:
        raise UserError(
            f"{out / LIBRARY}: cannot be read ({error.strerror}); expected the tuned library"
        ) from None
    again = "copy OUT anew, or tune with --resume to write it again"
    if found["size"] != said["size"]:
        raise UserError(
            f"{out / LIBRARY}: has {found['size']} bytes, its run wrote {said['size']}; {again}"
        )
    if found["sha256"] != said["sha256"]:
        raise UserError(f"{out / LIBRARY}: is not what its run wrote (other digest); {again}")


def _describe(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def _is_description(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("size")) is int
        and isinstance(value.get("sha256"), str)
        and re.fullmatch(r"[0-9a-f]{64}", value["sha256"]) is not None
    )


def _machine_of(target: Any) -> str:
    """The processor that a library's host code is for."""
    host = target.host if target.host is not None else target
    triple = str(host.attrs.get("mtriple", "") or "")
    return _machine(triple.partition("-")[0] or platform.machine())


def _machine(name: str) -> str:
    return _MACHINES.get(name.lower(), name.lower())
