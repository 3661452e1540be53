"""What the console and the API do and show, a script can: each route has a command, or a reason to have none."""

import re
from collections.abc import Iterator

import typer

from service.cli import app as command_line

DOCUMENTS = {
    "criteria": "criteria set",
    "rules": "rules set",
    "suites": "suites set",
    "reasons": "reasons set",
    "glossary": "glossary set",
    "routing": "labelling route",
    "triggers": "triggers set",
    "rates": "rates set",
    "retention": "retention set",
    "questions": "schema set",
    "guidelines": "guidelines set",
}
# Of each command, the routes of the console and of the API that do the same.
ACTIONS = {
    "annotators answer": "annotators.answer console.answer_question",
    "annotators capacity": "console.set_capacity",
    "annotators invite": "annotators.invite console.invite_expert",
    "annotators off-board": "console.off_board",
    "annotators person": "console.set_person",
    "annotators pool": "annotators.change_pool console.change_pool",
    "annotators report": "console.report_on_annotators",
    "approve": "loop.approve console.decide",
    "ask": "models.chat console.question",
    "attack": "console.attack",
    "audit": "console.ask_audit",
    "bisect": "bisections.bisect console.bisect",
    "corpus decide": "console.decide_corpus",
    "corpus import": "corpus.add corpus.import_corpus console.import_corpus",
    "corpus sample": "console.sample_corpus",
    "curate": "loop.curate console.build_set",
    "erase": "rights.erase console.erase",
    "evaluate": "loop.evaluate console.evaluate",
    "feedback release": "console.release",
    "feedback report": "reports.report console.report",
    "feedback take-in": "console.take_in",
    "hold": "rights.hold rights.lift console.hold console.lift_hold",
    "jobs cancel": "loop.cancel console.cancel_job console.cancel_run",
    "jobs retry": "console.retry_job",
    "keys add": "console.add_key",
    "keys revoke": "console.revoke_key",
    "labelling gold": "console.name_gold",
    "notices add": "notices.add console.add_target",
    "notices again": "notices.send_again console.send_again",
    "notices remove": "notices.remove console.remove_target",
    "notices test": "notices.send_test console.send_test",
    "projects create": "console.create_project",
    "projects set": "console.set_switches",
    "promote": "loop.promote console.promote console.override",
    "quarantine": "quarantines.impose quarantines.lift console.impose_quarantine console.lift_quarantine",
    "repairs accept": "audits.accept_repair console.accept_repair",
    "repairs undo": "audits.undo_repair console.undo_repair",
    "rollback": "console.roll_back",
    "runs reproduce": "console.reproduce_run",
    "schema set": "questions.set_label_schema",
    "serving add": "serving.add console.add_serving",
    "serving check": "console.check_serving",
    "serving remove": "serving.remove console.remove_serving",
    "subject export": "rights.export console.export_subject",
    "suites accept": "console.accept_suite",
    "suites decline": "console.decline_suite",
    "suites set": "suites.put",
    "tasks adjudicate": "console.adjudicate",
    "tasks ask-again": "console.ask_again console.ask_about_rows",
    "tasks ticket": "notices.set_ticket console.set_ticket",
    "time waive": "loop.waive_effort console.waive_effort",
    "train": "loop.train console.train",
    "tune": "tunings.tune console.tune",
    "users add": "console.add_user",
    "users disable": "console.disable",
    "users link": "console.invite",
    "users role": "console.set_role",
    "users sign-out": "console.revoke console.sign_out",
    "waive": "audits.waive console.waive",
}
QUESTIONS = {
    "annotators list": "annotators.page console.annotators",
    "annotators questions": "annotators.questions",
    "annotators report": "console.annotator",
    "audit": "console.audit",
    "bisect": "bisections.one bisections.page console.ask_bisection console.bisection console.bisection_list",
    "corpus list": "corpus.page console.corpora console.corpus_rows",
    "diff": "console.set_diff",
    "erase": "rights.erasure rights.holds console.erasures",
    "evaluations list": "loop.evaluations console.evaluations",
    "evaluations show": "loop.one_evaluation console.evaluation",
    "evidence": "lineage.evidence",
    "feedback export": "feedback.page console.feedback",
    "fixes": "console.fixes",
    "jobs list": "loop.job console.jobs console.job",
    "ledger list": "console.entries",
    "live": "models.champion",
    "models history": "loop.promotions",
    "models list": "console.models",
    "notices list": "notices.page notices.targets console.notices",
    "overview": "console.overview",
    "projects list": "console.home console.settings",
    "quarantine": "quarantines.page",
    "reasons show": "reasons.reasons",
    "runs list": "loop.training_run loop.training_runs console.runs console.run",
    "schema show": "questions.label_schema",
    "serving list": "serving.targets console.serving_list",
    "sets list": "loop.training_sets console.training_sets",
    "sets show": "console.training_set",
    "suites list": "suites.show",
    "tasks list": "console.tasks console.task",
    "tune": "tunings.one tunings.page console.ask_tuning console.tuning console.tuning_list",
    "users list": "console.users",
    "users sessions": "console.account",
    "where": "lineage.where console.where console.story_of",
    "why": "lineage.why console.why",
    "worth": "outcomes.figures console.worth",
}
# What needs no command, and why.
NONE_NEEDED = {
    "an expert does it on their own page, under their own name": (
        "console.add_case console.ask_about_guidelines console.work"
    ),
    "a browser comes in, or a person changes their own password": (
        "console.join console.invitation console.link console.sign_in console.use_password"
        " console.use_sign_in_link console.set_password"
    ),
    "end users, the widget and the application around it speak for themselves": (
        "feedback.change feedback.give feedback.import_lines feedback.withdraw forms.give signals.give"
        " status.status status.withdraw_by_link responses.log_batch responses.log_response outcomes.report"
    ),
    "a form for what a command takes as options": "console.new_project console.playground",
}


def every_command(part=None, path=()) -> Iterator[str]:
    part = part or typer.main.get_command(command_line)
    for name, command in getattr(part, "commands", {}).items():
        yield from every_command(command, (*path, name))
    if not hasattr(part, "commands"):
        yield " ".join(path)


def routes(client, *, that_change: bool) -> set[str]:
    """Views of the console and the API that change something, or that only show it."""
    found = set()
    for rule in client.application.url_map.iter_rules():
        changes = bool(rule.methods - {"GET", "HEAD", "OPTIONS"})
        is_ours = rule.endpoint.startswith("console.") or rule.rule.startswith(("/v1/", "/f/"))
        if is_ours and changes == that_change:
            found.add(rule.endpoint)
    return found


NAMED = set(" ".join([*ACTIONS.values(), *QUESTIONS.values(), *NONE_NEEDED.values()]).split())


def without_command(found: set[str]) -> set[str]:
    """Routes of which nobody said anything; parts of pages go with their page."""
    return {name for name in found - NAMED if not name.endswith("_part")} - {"console.set_document"}


def test_each_action_and_question_has_a_command_or_a_reason_to_have_none(client):
    actions, questions = (routes(client, that_change=each) for each in (True, False))
    missing = without_command(actions | questions)
    assert not missing, f"add a command, or say in NONE_NEEDED why none is needed: {sorted(missing)}"
    assert actions | questions >= NAMED
    assert without_command({*actions, "console.burn"}) == {"console.burn"}


def test_each_document_of_the_settings_is_set_by_a_command(client):
    (rule,) = client.application.url_map.iter_rules("console.set_document")
    assert set(re.findall(r"\w+", rule.rule.partition("any(")[2].partition(")")[0])) == set(DOCUMENTS)


def test_what_is_said_to_be_a_command_is_one():
    known = set(every_command())
    assert {*ACTIONS, *QUESTIONS, *DOCUMENTS.values()} <= known
    assert "tasks forget" not in known
