"""Each rule of `./run check`'s own is broken by what it names, and by nothing of the product."""

import bootstrap
import forbidden
import pytest

BROKEN = {
    "a repository's own code": "AutoModel.from_pretrained(x, trust_remote_code=True)",
    "a repository's own code, by a variable": "AutoModel.from_pretrained(x, trust_remote_code=trusted)",
    "a checkpoint's own code": "torch.load(path)",
    "a checkpoint's own code, said aloud": "torch.load(path, weights_only=False)  # noqa: S614",
    "a shell": "subprocess.run(f'rm {name}', shell=True)  # noqa: S602",
    "another shell": "os.system(name)",
    "a pickle": "import pickle  # noqa: S403",
    "part of a pickle": "from pickle import loads",
    "a pickle by another name": "import dill as json",
    "an array's pickle": "numpy.load(path, allow_pickle=True)",
    "a table's pickle": "pandas.read_pickle(path)",
}
FINE = (
    "AutoModel.from_pretrained(x, trust_remote_code=False)",
    "torch.load(path, weights_only=True)",
    "subprocess.run(['rm', name], shell=False)",
    "import json",
    "orjson.loads(text)",
)


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_finds_what_it_forbids(rule):
    assert len(list(forbidden.in_code(BROKEN[rule]))) == 1


@pytest.mark.parametrize("line", FINE)
def test_what_is_as_it_should_be_breaks_none(line):
    assert not list(forbidden.in_code(line))


@pytest.mark.parametrize("text", ["{{ comment|safe }}", "{{ x | safe }}", "{% autoescape false %}"])
def test_a_template_that_trusts_a_text_is_found(text):
    assert forbidden.in_template(f"<p>\n{text}\n{{{{ safely }}}}") == [
        (2, "a text would be taken for mark-up")
    ]


def test_the_product_breaks_none(capsys):
    assert forbidden.main() == 0, capsys.readouterr().out


def test_a_broken_rule_ends_the_check(tmp_path, monkeypatch, capsys):
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "new.py").write_text("\nimport pickle\n")
    monkeypatch.setattr(forbidden, "ROOT", tmp_path)
    assert forbidden.main() == 1
    assert capsys.readouterr().out == "service/new.py:2: pickle: reading would run code\n"


def test_the_check_looks_for_them():
    assert ("deploy/forbidden.py",) in bootstrap.CHECKS
