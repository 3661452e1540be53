"""Real questions of a bank's customers, with simulated flags and experts of known accuracy, all the way on SmolLM2."""

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

from annotation.types import Answer, Verdict
from service import answers
from service.projects import NewProject
from service.settings import Settings
from service.tables import ProjectKind
from service.web.app import create_app
from tests.asking import responder_of
from tests.benchmarks.installation import installation
from tests.benchmarks.report import Aim, MissingData, Report
from tests.due import do_all_due
from tests.e2e.world import World
from tests.fakes import FakeConnector
from tests.repetitions import Repetitions

INTENTS, ACCURACY, SEED = 20, 0.9, 0
OPTIONS = {"learning_rate": 1e-3, "epochs": 3, "replay_general": 40}
Question = tuple[str, str]
"""What a customer asks, and the intent."""


def measure(repetitions: Repetitions, data: str = "") -> Report:
    """Take questions through the API and the jobs, and compare the base model with what became of it."""
    tested, flagged = read(Path(data), *repetitions.real_questions)
    chosen = {"cache_dir": Settings().cache_dir}
    with installation(**chosen) as runtime:
        bank = Bank(
            runtime, create_app(runtime).test_client(), partial(do_all_due, runtime), tested + flagged
        )
        with patch("service.jobs.labelling.connect", lambda *_: bank.connector):
            bank.have_judged(tested)
            bank.have_corrected(flagged)
            judged = bank.learn(**OPTIONS)
        wrong, named = bank.wrong_labels(), bank.named_by_audit()
        before, after = (bank.accuracy(judged, version) for version in (0, judged["model_version"]))
    return Report(
        columns=("model", "accuracy", "between", "questions"),
        rows=[
            (who, f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", one["n"])
            for who, one in (("base", before), (f"trained, {judged['verdict']}", after))
        ],
        figures={
            "intents": INTENTS,
            "flagged": len(flagged),
            "wrong_labels": len(wrong),
            "wrong_labels_found": len(wrong & named),
            "named_by_audit": len(named),
            "passed": int(judged["verdict"] == "passed"),
            **{f"base_{name}": round(before[name], 3) for name in ("value", "low", "high")},
            **{f"trained_{name}": round(after[name], 3) for name in ("value", "low", "high")},
        },
        aims={
            "trained_low_over_base_high": Aim(
                aim=round(before["high"], 3), got=round(after["low"], 3), at_least=True
            )
        },
    )


def read(folder: Path, tested: int, flagged: int) -> tuple[list[Question], list[Question]]:
    """Draw questions of the first intents, to judge by and to learn from.

    Raises:
        MissingData: the folder does not hold them.
    """
    try:
        files = [_rows(folder / name) for name in ("test.csv", "train.csv")]
    except OSError as error:
        raise MissingData(
            f"--data names the folder with train.csv and test.csv of Banking77: {error}"
        ) from error
    names = sorted({intent for _, intent in files[0]})[:INTENTS]
    kept = [[one for one in rows if one[1] in names] for rows in files]
    draw = Random(SEED)
    return draw.sample(kept[0], tested), draw.sample(kept[1], flagged)


class Bank(World):
    """Customers who flag what is wrong, and one expert for each task, who errs in one of ten."""

    def __init__(self, runtime, client, work, questions: Sequence[Question]) -> None:
        self.truth = dict(questions)
        self.labels = sorted(set(self.truth.values()))
        new = NewProject(
            slug="bank",
            kind=ProjectKind.CLASSIFICATION,
            base_model="bundled:smollm2",
            labels=self.labels,
            system_prompt="Name the intent of the customer of a bank.",
            overlap=1,
            needed=1,
        )
        super().__init__(runtime, client, work, new)
        self.responder = responder_of(runtime)
        self.connector = FakeConnector()
        self.draw = Random(SEED)

    def have_judged(self, questions: Sequence[Question]) -> None:
        """Have answers that nobody flagged judged: what models are tested on."""
        for said, _ in questions:
            self.respond(said, self._answer(said))
        self.triage(random_share=1.0)
        self._experts_answer(accuracy=1.0)

    def have_corrected(self, questions: Sequence[Question]) -> None:
        """Have all wrong answers flagged, and corrected by experts who err."""
        for said, intent in questions:
            answer = self._answer(said)
            token = self.respond(said, answer)
            if answer != intent:
                self.flag(token)
        self.triage(random_share=0.0)
        self._experts_answer(accuracy=ACCURACY)

    def wrong_labels(self) -> set[str]:
        """Return the questions that the set has under another intent than theirs."""
        return {said for said, row in self.examples().items() if row.answer != self.truth[said]}

    def named_by_audit(self) -> set[str]:
        """Return the questions of which the audit says that their label is likely wrong."""
        with self.runtime.db.reading() as session:
            newest = answers.newest_set(session, self.project.id)
            findings = answers.findings_of(session, newest)
        keys = {key for one in findings if one.check == "mislabelled" for key in one.keys}
        return {said for said, row in self.examples().items() if row.key in keys}

    def accuracy(self, judged: dict, version: int) -> dict:
        """Return one version's accuracy on the test split, with its limits."""
        told = self.client.get(f"/v1/evaluations/{judged['id']}", headers=self.headers).json
        wanted = {"model_version": version, "suite": "test", "metric": "accuracy"}
        return next(one for one in told["scores"] if wanted.items() <= one.items() and not one["slice"])

    def _answer(self, said: str) -> str:
        asked = {"project": "bank", "messages": [{"role": "user", "content": said}]}
        return self.responder.post("/answer", json=asked).json["text"]

    def _experts_answer(self, *, accuracy: float) -> None:
        self.send()
        (tool_project,) = self.connector.projects
        for task_id, task in self.connector.projects[tool_project].tasks.items():
            if not task.annotations:
                self.connector.answer(tool_project, task_id, "ann", self._judged(task.shown, accuracy))
        self.sync()

    def _judged(self, shown, accuracy: float) -> Answer:
        label = self.truth[shown["prompt"]]
        if self.draw.random() >= accuracy:
            label = self.draw.choice([other for other in self.labels if other != label])
        if shown["response"] == label:
            return Answer(Verdict.CORRECT)
        return Answer(Verdict.INCORRECT, label=label, cause="model")


def _rows(path: Path) -> list[Question]:
    with path.open(newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]
