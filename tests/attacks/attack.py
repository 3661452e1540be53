"""What an entry of the catalogue holds, and the tests that many of them name."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.shown import of

BAD = "integration/test_bad_input.py"
API = "integration/test_intake_api.py"
WEB = "integration/test_web.py"
PEOPLE = "integration/test_people.py"
CONSOLE = "integration/test_console.py"
LISTS = "integration/test_lists.py"
HOOKS = "integration/test_hooks.py"
SIGNED = "unit/annotation/test_hooks.py"
OUT = "unit/service/test_outgoing.py"
NOTICES = "integration/test_notices.py"
TOOLS = "integration/test_tools.py"
TEXT = "unit/service/test_text.py"
MODELS = "unit/retrain/test_base_models.py"
ADAPTERS = "unit/retrain/test_generate.py"
DECIDING = "integration/test_deciding.py"
WAVES = "integration/test_waves.py"
PAGES = "attacks/test_pages.py"
SMUGGLING = "attacks/test_smuggling.py"
BROWSER = "browser/test_console.py"

BROKEN = of(BAD, "test_a_broken_body_is_refused_by_every_route_and_leaves_nothing")
MEMBERS = of(BAD, "test_a_body_with_one_wrong_member_is_refused_by_every_route_and_leaves_nothing")
FIELDS = of(BAD, "test_a_value_that_does_not_fit_its_field_is_named_and_leaves_nothing")
MEDIA = of(BAD, "test_another_media_type_or_a_compressed_body_is_refused_by_every_route")
SIZE = of(BAD, "test_a_body_over_the_limit_is_refused_whether_announced_or_chunked")
KEPT = of(BAD, "test_texts_at_their_limits_and_hostile_ones_are_kept_as_they_are")
TOKEN = of(BAD, "test_a_token_that_is_not_genuine_for_this_response_is_refused")
ORIGIN = of(BAD, "test_a_public_key_works_on_its_own_pages_only")
UNKNOWN = of(BAD, "test_an_unknown_path_or_method_is_a_problem_too")
HEADS = of(WEB, "test_a_malformed_request_head_never_reaches_a_view") + of(
    SMUGGLING, "test_no_second_request_hides_in_the_first"
)
LIVE = of(BAD, "test_without_a_live_credential_no_route_does_anything")
RATES = of(API, "test_too_many_are_told_when_to_come_again_and_others_are_not_hindered")
INERT = of(PAGES, "test_whatever_was_written_is_text_on_every_page") + of(
    BROWSER, "test_every_page_shows_hostile_texts_as_text_fits_a_phone_and_bars_nobody_in_either_theme"
)
REFUSED_OUT = of(OUT, "test_what_is_no_plain_https_address_is_refused")
DAMAGED_ADAPTER = of(ADAPTERS, "test_an_adapter_that_somebody_changed_is_refused")


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack; `otherwise` says why nothing shows it: what it aims at is not there."""

    number: int
    what: str
    expected: str
    shown_by: Sequence[str] = ()
    otherwise: str = ""
