"""A hospital's routing project, whose experts answer in a tool in memory."""

from collections.abc import Sequence
from random import Random

from sqlmodel import select

from annotation.types import Answer, Verdict
from service.projects import NewProject
from service.tables import Evaluation, ProjectKind, Score
from tests.asking import responder_of
from tests.e2e.world import World

WORDS = {
    "Billing": ["invoice", "money", "charged", "bill"],
    "Cardiology": ["heart", "chest", "beats", "pulse"],
    "Dermatology": ["skin", "rash", "itches", "spots"],
}
FILLERS = (
    "please today since yesterday my again the help morning about always never week doctor asked told mother father "
    "work home night walk very little much after before lunch dinner phone letter went came still hope think"
)


class Clinic(World):
    """Users ask by chance, and two experts who know the truth answer in a tool in memory."""

    def __init__(self, runtime, client, work, connector) -> None:
        new = NewProject(
            slug="clinic", kind=ProjectKind.CLASSIFICATION, base_model="bundled:tiny", labels=list(WORDS)
        )
        super().__init__(runtime, client, work, new)
        self.responder = responder_of(runtime)
        self.connector = connector
        self.random = Random(0)
        self.truth: dict[str, str] = {}

    def who_answers(self) -> str:
        question = {"project": "clinic", "messages": [{"role": "user", "content": "my skin itches"}]}
        nobody = self.responder.post("/answer", json=question, headers={"Authorization": "Bearer guessed"})
        assert nobody.status_code == 401
        answer = self.responder.post("/answer", json=question)
        assert answer.json["text"] in WORDS
        return answer.json["model_version"]

    def measured(self, evaluation: Evaluation) -> set[str]:
        """Return the metrics of which an evaluation has scores."""
        with self.runtime.db.reading() as session:
            return set(session.exec(select(Score.metric).where(Score.evaluation_id == evaluation.id)))

    def ask(self, count: int, *, flag: bool, about: Sequence[str] = tuple(WORDS)) -> None:
        for _ in range(count):
            label = self.random.choice(about)
            text = " ".join([*self.random.sample(FILLERS.split(), 6), *self.random.sample(WORDS[label], 2)])
            self.truth[text] = label
            said = self.random.choice(list(WORDS))
            token = self.respond(text, said)
            if flag and (said != label or self.random.random() < 0.1):
                self.flag(token)

    def experts_answer(self) -> None:
        self.send()
        (tool_project,) = self.connector.projects
        for task_id, task in self.connector.projects[tool_project].tasks.items():
            right = self.truth[task.shown["prompt"]]
            answer = (
                Answer(Verdict.CORRECT)
                if task.shown["response"] == right
                else Answer(Verdict.INCORRECT, label=right, cause="model")
            )
            for expert in ("ann", "ben"):
                self.connector.answer(tool_project, task_id, expert, answer)
        self.sync()
