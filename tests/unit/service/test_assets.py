"""What pages load is what was vendored, byte for byte, and nothing else."""

import hashlib

import pytest

from service.web.assets import FOLDER, assets

VENDOR = FOLDER / "vendor"
LISTED = dict(
    reversed(line.split("  ")) for line in (VENDOR / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
)


@pytest.mark.parametrize("name", sorted(LISTED))
def test_a_vendored_file_is_the_one_whose_checksum_is_listed(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == LISTED[name]


def test_every_vendored_file_is_listed():
    assert {file.name for file in VENDOR.iterdir()} - {"SHA256SUMS"} == set(LISTED)


def test_every_vendored_program_comes_with_its_licence():
    programs = {name.partition("-")[0].removeprefix("hx") or "htmx" for name in LISTED if "-" in name}
    assert {f"{name}.LICENSE" for name in programs} <= set(LISTED)


def test_only_styles_scripts_and_pictures_are_served():
    assert {name.rpartition(".")[2] for name in assets()} == {"css", "js", "svg"}


@pytest.mark.parametrize("asset", assets().values(), ids=lambda asset: asset.name)
def test_an_asset_is_addressed_by_its_content(asset):
    assert asset.path == f"/assets/{hashlib.sha256(asset.content).hexdigest()[:16]}/{asset.name}"
    assert asset.media_type.partition("/")[0] in ("text", "image", "application")


def test_no_script_of_ours_fetches_from_elsewhere():
    ours = [each.content.decode() for each in assets().values() if not each.name.startswith("vendor/")]
    for content in ours:
        assert "http:" not in content.replace("http://www.w3.org/", "")
        assert "https:" not in content
