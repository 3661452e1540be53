"""From a rate ten times too high: what a search finds on the demo's enquiries with SmolLM2, chance beside it."""

from retrain import parquet
from retrain.suites import GENERAL, general_questions
from retrain.tuning.plan import Sampler
from retrain.types import Example, Kind, Message, Split
from service import tunings
from service.demo import enquiries
from service.projects import NewProject, add_document, create
from service.runtime import Runtime
from service.settings import Settings
from service.tables import ConnectorKind, DocumentKind, ProjectKind, TrainingSet, Tuning
from tests import builders
from tests.benchmarks.installation import installation
from tests.benchmarks.report import Aim, Report
from tests.due import do_all_due
from tests.repetitions import Repetitions

# Sixty steps: in a run of twenty the usual rate learns little, and ten times as much is no bad start.
COUNTS = {Split.TRAIN: 160, Split.VALIDATION: 80}
GENERAL_QUESTIONS = 24  # so many, for they take long to ask
START = {"learning_rate": 5e-3, "epochs": 3, "replay_general": 0}
# Scores alone are compared: where nothing is replayed, the start forgets all.
RULES = {"max_loss": {GENERAL: 1.0}}
SEARCHED = ("learning_rate", "epochs", "batch_size", "rank", "alpha")
SAMPLERS = (Sampler.TPE, Sampler.RANDOM)


def measure(repetitions: Repetitions) -> Report:
    """Search once by each sampler, from the same start and with the same budget."""
    with installation(cache_dir=Settings().cache_dir) as runtime:
        found = {sampler: _searched(runtime, sampler, repetitions.trials) for sampler in SAMPLERS}
    better = {sampler: one["better"] for sampler, one in found.items()}
    columns = (
        "sampler",
        "better by",
        "best trial",
        "learning rate",
        "keeps",
        "trials",
        "ended early",
        "seconds",
    )
    return Report(
        columns=columns,
        rows=[_row(sampler, one) for sampler, one in found.items()],
        figures={
            "watt_hours": sum(one["watt_hours"] for one in found.values()),
            **{f"{sampler}_better": round(share, 3) for sampler, share in better.items()},
        },
        aims={"better_by": Aim(aim=0.15, got=round(better[Sampler.TPE], 3), at_least=True)},
    )


def _row(sampler: Sampler, found: dict) -> tuple[object, ...]:
    ended = sum(one["state"] == "pruned" for one in found["trials"])
    rate = f"{found['settings']['learning_rate']:.2g}"
    kept = found["trials"][found["best"]]["kept"]
    shares = (sampler.value, f"{found['better']:.0%}", found["best"], rate, f"{kept['value']:.0%}")
    return (*shares, len(found["trials"]), ended, found["seconds"])


def _searched(runtime: Runtime, sampler: Sampler, trials: int) -> dict:
    """Return a whole search as its page shows it."""
    with runtime.db.transaction() as session:
        wish = tunings.Wish(sampler=sampler.value, trials=trials, search=SEARCHED)
        training_set = session.get_one(TrainingSet, _set(runtime, session, sampler.value))
        asked = tunings.request(runtime, session, training_set, START, wish, actor="bench").id
    do_all_due(runtime)
    with runtime.db.reading() as session:
        return tunings.describe(session, session.get_one(Tuning, asked))


def _set(runtime: Runtime, session, name: str):
    """Make a project of this name, so that no search learns from another, with a set of the demo's enquiries."""
    new = NewProject(
        slug=name,
        kind=ProjectKind.CLASSIFICATION,
        base_model="bundled:smollm2",
        labels=tuple(enquiries.departments()),
        connector=ConnectorKind.NONE,
        system_prompt=enquiries.SYSTEM_PROMPT,
    )
    project = create(session, new, actor="bench")
    builders.add_criteria(session, project)
    general = {GENERAL: general_questions()[:GENERAL_QUESTIONS]}
    for kind, content in ((DocumentKind.SUITE, general), (DocumentKind.GATE_RULES, RULES)):
        add_document(session, project, kind, content, actor="bench")
    made = builders.add_set(session, project)
    drawn, file = iter(enquiries.load(0)), runtime.settings.data_dir / "set.parquet"
    parquet.write(
        [_example(next(drawn), split) for split, count in COUNTS.items() for _ in range(count)], file
    )
    made.artifact = runtime.artifacts.put_bytes(file.read_bytes())
    made.counts = {split.value: count for split, count in COUNTS.items()}
    return made.id


def _example(enquiry: enquiries.Enquiry, split: Split) -> Example:
    turns = (Message("user", enquiry.text),)
    facts = {"label": enquiry.department, "kind": Kind.CLASSIFICATION, "split": split}
    return Example(enquiry.text, enquiry.text, turns, enquiry.department, **facts)
