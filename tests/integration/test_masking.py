"""People's data is masked before it is stored, and only counted."""

from uuid import UUID, uuid4

import pytest

from retrain.choosing import has_placeholder
from service.masking import PLACEHOLDERS, masked
from service.tables import Project, Response
from tests.integration.test_intake_api import ANSWER, PAGE, Site, open_site, sign

PERSONAL = {
    "[EMAIL]": ["ann.lee+x@clinic.example", "müller@praxis.example"],
    "[PHONE]": ["+49 30 1234567", "+49 (0)171 2345678", "030 / 123 45 67", "(212) 555-0147"],
    "[CARD]": ["4111 1111 1111 1111", "5500-0000-0000-0004"],
    "[IBAN]": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "[PERSONAL_ID]": ["219-09-9999"],
    "[SECRET]": ["AKIAIOSFODNN7EXAMPLE", "esk_" + "a1B2" * 8, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"],
    "[PASSWORD]": ["password: hunter22"],
    "[IP]": ["203.0.113.77", "2001:db8:85a3:8d3:1319:8a2e:370:7348"],
}
CLEAN = [
    "Take 2 tablets every 8 hours for 10 days.",
    "The invoice of 12.03.2024 over 1,234.50 EUR is paid.",
    "Room 4111, ward 12-34, case 2024-000123.",
    "Card ending in 1111; 4111 1111 1111 1112 is no number of a card.",
    "Version 10.0.0 of § 203 StGB, ISO 27001:2022.",
    "Python 3.11.9 costs 0.99.",
]


@pytest.fixture
def site(runtime) -> Site:
    return open_site(runtime)


@pytest.mark.parametrize("placeholder", PERSONAL)
def test_what_names_a_person_gets_its_placeholder(placeholder):
    for value in PERSONAL[placeholder]:
        left, counts = masked(f"Write this down, {value}, and call.")
        assert value not in left and placeholder in left, left
        assert counts.total() == 1
    assert has_placeholder(placeholder)
    assert set(PERSONAL) == set(PLACEHOLDERS.values())


@pytest.mark.parametrize("text", CLEAN)
def test_what_names_nobody_stays(text):
    assert masked(text) == (text, {})


def test_no_word_of_it_reaches_the_database_and_it_is_counted(site, capfd):
    secret, mail = "4111 1111 1111 1111", "ann@clinic.example"
    said = {"messages": [{"role": "user", "content": f"I am {mail}"}], "response": f"Pay by {secret}."}
    logged = site.log(**said, external_id="c1", context=[{"id": "p", "text": mail}]).json
    words = {"comment": f"not {mail}", "correction": f"{secret} or {mail}"}
    event, quote = str(uuid4()), {"start": 0, "end": 5, "quote": mail}
    given = [site.flag(logged["feedback_token"], event_id=event, **words, selection=quote) for _ in range(2)]
    assert [each.status_code for each in given] == [201, 200]
    credential = {"key": site.public_key, "feedback_token": logged["feedback_token"]}
    change = {"comment": f"or {mail}"}
    site.client.patch(f"/v1/feedback/{event}", json=credential | change, headers={"Origin": PAGE})
    with site.runtime.db.reading() as session:
        response = session.get_one(Response, UUID(logged["id"]))
    row = site.feedback(given[0])
    assert (response.text, response.messages[0]["content"]) == ("Pay by [CARD].", "I am [EMAIL]")
    assert response.masked == {"a payment card number": 1, "an e-mail address": 2}
    assert (row.comment, row.correction, row.selection["quote"]) == (
        "or [EMAIL]",
        "[CARD] or [EMAIL]",
        "[EMAIL]",
    )
    assert row.masked == {"a payment card number": 1, "an e-mail address": 4}
    stored = b"".join(path.read_bytes() for path in site.runtime.settings.data_dir.glob("errata.db*"))
    assert b"I am [EMAIL]" in stored
    assert not any(part.encode() in stored for part in (secret, mail))
    assert mail not in "".join(capfd.readouterr())


def test_the_token_is_of_the_text_that_was_answered(site):
    text = "Write to ann@clinic.example."
    logged = [site.log(response=text, external_id="c1").json for _ in range(2)]
    assert logged[0] == logged[1]
    assert site.flag(sign(site, "c1", text)).status_code == 201
    assert site.flag(sign(site, "c1", "Write to [EMAIL].")).status_code == 422
    early = site.flag(sign(site, "c2", text))
    late = site.log(response=text, external_id="c2")
    assert site.feedback(early).response_id == UUID(late.json["id"])


def test_a_project_may_keep_what_was_said(site):
    with site.runtime.db.transaction() as session:
        session.get_one(Project, site.project.id).masks_personal = False
    logged = site.log(**ANSWER | {"response": "ann@clinic.example"}).json
    with site.runtime.db.reading() as session:
        row = session.get_one(Response, UUID(logged["id"]))
    assert (row.text, row.masked) == ("ann@clinic.example", {})
