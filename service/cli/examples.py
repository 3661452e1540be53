"""One example of each command, which its help ends with; a test parses them all."""

import typer

ROW = "019b76da-a800-7000-8000-000000000000"
EXAMPLES = f"""
annotators answer {ROW} "only what the answer itself says"
annotators capacity ann.smith --answers 20
annotators invite clinic ann
annotators list clinic
annotators off-board {ROW}
annotators person clinic ann.smith "Dr. Ann"
annotators questions clinic
annotators report clinic
annotators pool clinic cardiologists --add {ROW}
approve -p clinic --reason "right where it was wrong, and nothing lost"
ask clinic "who bills me?" --beside 2
attack clinic begin
audit faq.csv
backup errata.backup
bisect -p clinic --good v3 --bad v4 --metric accuracy
corpus decide -p clinic --source faq
corpus import faq.csv -p clinic --source faq --licence CC-BY-4.0
corpus list -p clinic
corpus sample -p clinic --source faq --size 60
criteria set clinic criteria.json
criteria show clinic
curate -p clinic
diff clinic/v1 clinic/v2
doctor
erase -p clinic --subject patient-7 --yes
evaluate -p clinic --junit report.xml
evidence clinic/v2 --to evidence.zip
feedback export -p clinic
feedback release {ROW} -p clinic
feedback report -p clinic --question "who bills me?" --complaint "not them" --channel phone
feedback take-in {ROW} -p clinic
fixes clinic
rates set clinic rates.json
rates show clinic
worth clinic
glossary set clinic glossary.json
glossary show clinic
guidelines set clinic guidelines.md
guidelines show clinic
hold clinic --subject patient-7 --reason "a court asked" --until 2027-01-31
init --admin ada
jobs cancel {ROW}
jobs list
jobs retry {ROW}
keys add clinic --kind public --origin https://www.example.org
keys list clinic
keys revoke clinic backend
keys rotate clinic --overlap-days 30
labelling accounts --json
labelling gold clinic {ROW}
labelling import clinic answers.jsonl
labelling route clinic routing.json
labelling send -p clinic
labelling sync -p clinic
ledger list -p clinic
ledger verify
live -p clinic --at 2026-11-01T12:00:00Z
migrate
models compare bundled:smollm2 bundled:tiny -p clinic
models history -p clinic
models list -p clinic
notices add clinic https://hooks.example.org/errata --kind alarm
notices again {ROW}
notices list clinic
notices remove {ROW}
notices test {ROW}
projects create clinic --kind classification --base-model bundled:smollm2 --labels Billing,Cardiology
projects list
projects set clinic --persons-needed 2
promote -p clinic
quarantine clinic --subject patient-7 --reason "sends what a script wrote"
reasons set clinic reasons.json
reasons show clinic
rebuild --verify clinic/v1
repairs accept {ROW} -p clinic
repairs list clinic/v1
repairs undo {ROW} -p clinic
restore errata.backup
retention set clinic retention.json
retention show clinic
rollback -p clinic --reason "complaints about billing"
rules set clinic rules.json
runs list -p clinic
runs reproduce {ROW}
schedule
schema set clinic schema.json --ask-again
schema show clinic
serving add clinic vllm /adapters --url http://vllm:8000
serving check clinic
serving list clinic
serving remove {ROW}
secrets rotate
sets collect -p clinic
sets export clinic/v1 --format parquet --to clinic-v1
sets list -p clinic
sets mirror clinic/v1
sets show clinic/v1
subject reads patient-7
subject export patient-7
suites accept clinic wrong
suites decline clinic wrong
suites list clinic
suites set clinic suites.json
evaluations list -p clinic
evaluations show {ROW}
overview -p clinic
tasks adjudicate {ROW} -p clinic --verdict incorrect --label Billing --reason "the bill is meant"
tasks ask-again -p clinic
tasks list -p clinic
tasks ticket {ROW} -p clinic --url https://tickets.example.org/7
time add -p clinic --part validation --hours 1.5
time show -p clinic
time waive {ROW} -p clinic --reason "reviewed by phone" --until 2027-01-31
tokens add ada
train -p clinic --option epochs=5
triage -p clinic
triggers set clinic triggers.json
triggers show -p clinic
tune -p clinic --trials 12
up
users add ann --role annotator --project clinic
users disable ann
users link ann
users list
users sessions ann
users sign-out ann
users role ann --role approver --project clinic
value -p clinic
verify --backup errata.backup
waive {ROW} -p clinic --reason "both answers are right" --until 2027-01-31
where {ROW}
why {ROW}
work {ROW}
worker light
"""


def show_in(app: typer.Typer) -> None:
    """Have the help of each command end with its example."""
    _attach(app, (), EXAMPLES.strip().splitlines())


def _attach(part: typer.Typer, path: tuple[str, ...], lines: list[str]) -> None:
    for command in part.registered_commands:
        name = command.name or (command.callback.__name__.replace("_", "-") if command.callback else "")
        begins = " ".join([*path, name])
        found = [line for line in lines if line == begins or line.startswith(f"{begins} ")]
        command.epilog = f"Example: errata {found[0]}" if found else None
    for group in part.registered_groups:
        if group.typer_instance and group.name:
            _attach(group.typer_instance, (*path, group.name), lines)
