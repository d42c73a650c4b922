"""Each message of the troubleshooting page is one of the program's, and each of these is there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from tests.docs import provocations
from tests.docs.messages import PAGE, Raised, closest, documented, raised
from tests.docs.provocations import PROVOCATIONS, Place

for _module in pkgutil.iter_modules(provocations.__path__):
    importlib.import_module(f"{provocations.__name__}.{_module.name}")

ENTRIES = documented()
MESSAGES = [message for messages in ENTRIES.values() for message in messages]

# Errors whose words are another error's, which is documented by itself.
PASSED_ON = {
    "familyseer/api/_result.py": "what a families.json holds, as where kernels are exported",
    "familyseer/api/_tune.py": "a message of the command line, its options named as arguments",
    "familyseer/cli/_npz.py": "the operating system's words about an archive",
    "familyseer/cli/_spamm_inputs.py": "what spamm says of its arguments",
    "familyseer/export/_kernels/_choose.py": "what a database or a families.json holds",
    "familyseer/models/loading.py": "made by `_unknown`, whose messages the page has",
    "familyseer/run/_replay.py": "the operating system's words about a log",
    "familyseer/spamm_tasks/_cuda.py": "what spamm says of a configuration",
    "familyseer/spamm_tasks/_tune.py": "what spamm says of a plan",
    "familyseer/versions.py": "made by `complaint`, whose messages the page has",
}


@pytest.mark.parametrize("anchor", ENTRIES)
def test_a_documented_message_is_what_the_program_says(
    anchor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROVOCATIONS.get(anchor), "nothing provokes the messages of this entry"
    met = set()
    for number, provocation in enumerate(PROVOCATIONS[anchor]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as change:
            for said in provocation(Place(folder, change)):
                found = closest(said, ENTRIES[anchor])
                assert found, f"the page has no such message: {said}"
                met.add(found)
    assert met == set(ENTRIES[anchor]), "the page has messages that nothing provokes"


def test_no_provocation_is_left_over() -> None:
    assert sorted(PROVOCATIONS) == sorted(ENTRIES)


def test_every_error_for_users_is_on_the_page() -> None:
    found = list(raised({"UserError", "RunError"}, "familyseer", "spamm", "costmodels", "ops"))
    found += raised({"UserError"}, "scripts/gpu_host.py")
    assert len(found) > 150
    missing = [f"{one.place}: {one.text}" for one in found if not _covered(one)]
    assert not missing, "no entry of docs/troubleshooting.md has these messages"


def test_every_error_of_kernel_libraries_is_on_the_page() -> None:
    errors = {"ValueError", "TypeError", "OSError", "RuntimeError", "ImportError", "KeyError"}
    found = [one for one in raised(errors, "familyseer/kernels") if one.has_words]
    assert len(found) > 20
    # a reason that its caller ends as a sentence
    odd = [o.place for o in found if not (o.text.startswith("is a ") or _covered(o))]
    assert not odd, "no entry of docs/troubleshooting.md has these messages"


def _covered(one: Raised) -> bool:
    if not one.has_words:
        return any(one.place.startswith(place) for place in PASSED_ON)
    return any(map(one.fits, MESSAGES))


# of files whose messages are reasons, to which their callers add the file's name
_REASONS = re.compile(r"spamm/(_matrix_market|_plan_file|_tuned|matrices)\.py")


def test_errors_of_spamm_name_the_argument_first() -> None:
    found = list(raised({"ValueError", "TypeError", "RuntimeError"}, "spamm"))
    assert len(found) > 100
    form = re.compile(r"(<\.\.\.>|[A-Za-z_]+)(, [A-Za-z_]+)*: .+|<\.\.\.>", re.S)
    odd = [
        f"{one.place}: {one.text}"
        for one in found
        if not (form.fullmatch(one.text) or _REASONS.match(one.place) or _covered(one))
    ]
    assert not odd, "these messages have not the form that the page tells"


def test_every_entry_says_what_to_do_and_has_an_anchor_of_its_own() -> None:
    titles = re.findall("^### ", PAGE.read_text("utf-8"), re.M)
    assert len(titles) == len(ENTRIES) > 50
