import hashlib
import json
import shutil

import numpy as np
import pytest

from costmodels import FamilyCostModel
from tests.costmodels.test_family_model import learned


@pytest.fixture(scope="module")
def saved(proposed, tmp_path_factory):
    context, candidates = proposed()
    model, _ = learned(context, candidates)
    model.assign("0123456789abcdef", "../odd / name")
    folder = tmp_path_factory.mktemp("models") / "saved"
    model.save(str(folder))
    return folder, model, context, candidates


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def rewrite_manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace(folder, pattern, content):
    """Puts a file in another's place and makes the manifest agree, as a forger would."""
    path = next(folder.glob(pattern))
    path.write_bytes(content)

    def change(manifest):
        for entry in manifest["families"]:
            if path.name in entry["files"]:
                entry["files"][path.name] = hashlib.sha256(content).hexdigest()

    rewrite_manifest(folder, change)


def test_a_loaded_model_predicts_alike_and_goes_on_learning(saved):
    folder, model, context, candidates = saved
    loaded = FamilyCostModel()
    loaded.load(str(folder))
    np.testing.assert_array_equal(
        loaded.predict(context, candidates), model.predict(context, candidates)
    )
    assert loaded.summary() == model.summary()
    assert loaded.accuracy("matmul") == model.accuracy("matmul")
    from tests.costmodels.conftest import result

    loaded.update(context, candidates[48:], [result(1e-3)] * 8)
    assert loaded.samples("matmul") == 56
    assert loaded.summary()["matmul"]["trainings"] == model.summary()["matmul"]["trainings"] + 1


def test_a_save_holds_no_pickle_and_no_leftovers(saved):
    folder = saved[0]
    assert {p.suffix for p in folder.iterdir()} == {".json", ".npz", ".ubj"}
    with np.load(next(folder.glob("samples-matmul*.npz")), allow_pickle=False) as archive:
        assert archive["rows"].shape[0] == 48
    assert not [p for p in folder.iterdir() if "odd" in p.name and "/" in p.stem]


def test_saving_again_replaces_what_was_there(saved, copied):
    saved[1].save(str(copied))
    FamilyCostModel().load(str(copied))


def _pickled() -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, keys=np.array([{"a": 1}], dtype=object))
    return buffer.getvalue()


def _set(**values):
    return lambda folder: rewrite_manifest(folder, lambda m: m.update(values))


def _truncate(pattern):
    def damage(folder):
        path = next(folder.glob(pattern))
        path.write_bytes(path.read_bytes()[:-20])

    return damage


def _forge_truncated(pattern):
    return lambda folder: replace(folder, pattern, next(folder.glob(pattern)).read_bytes()[:-20])


def _no_line(folder):
    rewrite_manifest(folder, lambda m: m["families"][0].update(line=["x", 1]))


def _family_twice(manifest):
    manifest["families"].append(manifest["families"][0])


def _more_right_than_judged(manifest):
    manifest["families"][0]["accuracy"] = [5.0, 1.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set(format=99), "format version 99 is newer, expected 2"),
        (_set(format="one"), "no format version"),
        (_set(feature_length=12), "features of length 12, expected 170"),
        (_set(families=[{}]), "missing or malformed"),
        (_set(families=3), "missing or malformed"),
        (lambda f: rewrite_manifest(f, _family_twice), "is there twice"),
        (lambda f: rewrite_manifest(f, _more_right_than_judged), "5.0 of 1.0 pairs"),
        (lambda f: (f / "manifest.json").write_text("[" * 10_000), "nested deeper"),
        (_no_line, "could not convert"),
        (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
        (lambda f: (f / "manifest.json").unlink(), "no such file"),
        (lambda f: next(f.glob("samples-matmul*")).unlink(), "no such file"),
        (lambda f: next(f.glob("model-matmul*")).unlink(), "no such file"),
        (_truncate("samples-matmul*"), "damaged"),
        (_truncate("model-matmul*"), "damaged"),
        (_forge_truncated("samples-matmul*"), "not an archive of plain arrays"),
        (lambda f: replace(f, "samples-matmul*", _pickled()), "not an archive of plain arrays"),
        (lambda f: replace(f, "samples-matmul*", b""), "not an archive of plain arrays"),
        (lambda f: replace(f, "model-matmul*", b"{}"), "model-matmul"),
        (lambda f: replace(f, "model-matmul*", b"nothing of the kind"), "model-matmul"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_bad_folder_is_refused_in_one_line(copied, damage, message):
    damage(copied)
    model = FamilyCostModel()
    with pytest.raises(ValueError) as raised:
        model._inst.load(str(copied))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert model.families() == []


def test_the_error_comes_through_tvm_as_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        FamilyCostModel().load(str(tmp_path / "nowhere"))


def test_samples_that_unpack_to_more_than_the_limit_are_refused(copied, monkeypatch):
    monkeypatch.setattr("costmodels.store._SAMPLES_LIMIT", 10_000)
    with pytest.raises(ValueError, match=r"samples-matmul.* more than the 10000 that are read"):
        FamilyCostModel().load(str(copied))


def test_a_file_larger_than_the_limit_is_not_read(copied, monkeypatch):
    monkeypatch.setattr("costmodels.store._FILE_LIMIT", 100)
    with pytest.raises(ValueError, match=r"samples-.* larger than 100 bytes"):
        FamilyCostModel().load(str(copied))
