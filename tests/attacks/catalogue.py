"""Every attack and bad input we know of: what must come of it, and the tests that show it.

All of them also mean: no 5xx, no traceback, nothing changed unless said.
"""

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


FORM = (
    Attack(1, "an empty body", "400", BROKEN),
    Attack(2, "no JSON", "400", BROKEN),
    Attack(3, "text/plain", "415", MEDIA),
    Attack(4, "null", "422", BROKEN),
    Attack(5, "an array", "422", BROKEN),
    Attack(6, "100,000 nested lists", "422", BROKEN),
    Attack(7, "a lone surrogate", "422", MEMBERS),
    Attack(8, "NUL in a text", "422 on both databases", MEMBERS),
    Attack(9, "NaN, Infinity, 1e400", "422", MEMBERS),
    Attack(10, "2^63 and 5,000 digits", "422", MEMBERS),
    Attack(11, "a boolean for a number", "422", FIELDS),
    Attack(12, "a key twice", "422", MEMBERS),
    Attack(13, "an unknown field", "422", MEMBERS),
    Attack(14, "the server's own fields", "422", MEMBERS),
    Attack(15, "invalid UTF-8", "400", BROKEN),
    Attack(16, "UTF-16, a byte order mark", "400", BROKEN),
    Attack(17, "a text at its limit and one beyond", "201, 422", KEPT + FIELDS),
    Attack(18, "emoji and a storm of combining marks", "stored; pages are well", KEPT + INERT),
    Attack(
        19,
        "bidirectional, zero-width and tag characters",
        "stored; shown by their numbers",
        KEPT + INERT + of(TEXT, "test_nothing_that_is_shown_hides"),
    ),
    Attack(20, "a body of a gigabyte, announced", "413 without reading", SIZE),
    Attack(
        21,
        "chunks without end",
        "413 at the limit",
        SIZE + of(WEB, "test_a_chunked_body_is_read_up_to_the_limit_and_no_further"),
    ),
    Attack(22, "a gzip bomb", "415", MEDIA),
    Attack(23, "a length and chunks", "one request or none", HEADS),
    Attack(24, "two lengths", "400", HEADS),
    Attack(25, "a header of 64 KB", "4xx", HEADS),
    Attack(26, "10,000 headers", "4xx", HEADS),
    Attack(
        27,
        "fields in the query",
        "they count for nothing",
        of(BAD, "test_what_a_query_says_besides_counts_for_nothing"),
    ),
    Attack(28, "a header that overrides the method", "405", UNKNOWN),
    Attack(29, "TRACE", "405", UNKNOWN),
    Attack(30, "..%2f in a path", "404", UNKNOWN),
)
IDENTITY = (
    Attack(31, "no key", "401", LIVE),
    Attack(
        32,
        "a secret key from a page",
        "403, a warning",
        of(BAD, "test_a_secret_key_that_comes_from_a_page_is_refused"),
    ),
    Attack(33, "a public key elsewhere", "403", of(BAD, "test_a_credential_of_the_wrong_kind_is_refused")),
    Attack(34, "a revoked key", "401", LIVE),
    Attack(35, "a key of one project, a token of another", "401", TOKEN),
    Attack(
        36,
        "no token where one is needed",
        "401",
        of(BAD, "test_a_public_key_alone_may_not_speak_of_a_response"),
    ),
    Attack(37, "a token that was changed, cut or signed otherwise", "401", TOKEN),
    Attack(
        38,
        "a token of a rotated key",
        "201 within the overlap, then 401",
        of(API, "test_a_rotated_key_holds_until_the_overlap_is_over"),
    ),
    Attack(39, "an expired token", "401 token_expired", TOKEN),
    Attack(40, "a token of tomorrow", "401", TOKEN),
    Attack(
        41,
        "another credential of ours as a token",
        "401",
        TOKEN + of(PEOPLE, "test_a_link_is_no_bearer_token"),
    ),
    Attack(
        42,
        "a token of another text",
        "422",
        TOKEN + of(API, "test_a_token_of_another_text_is_joined_to_nothing_and_says_so"),
    ),
    Attack(
        43,
        "the same again",
        "200, the same answer",
        of(API, "test_the_same_event_again_gets_the_same_answer"),
    ),
    Attack(
        44, "the same id, another body", "409", of(API, "test_the_same_event_with_another_body_is_a_conflict")
    ),
    Attack(
        45,
        "an id of another project",
        "404, as if there were none",
        of(BAD, "test_another_projects_response_and_feedback_look_like_none"),
    ),
    Attack(46, "a hundred at once with one id", "one row", of(API, "test_many_at_once_with_one_id_are_one")),
    Attack(
        47,
        "a second vote of the same user",
        "the first is changed",
        of(API, "test_one_subject_has_one_voice_on_each_response"),
    ),
    Attack(48, "more than the limits", "429 with Retry-After; others are served", RATES),
    Attack(49, "a made-up X-Forwarded-For", "ignored", of(API, "test_only_a_trusted_proxy_says_who_asks")),
    Attack(
        50,
        "addresses of one /64 in turn",
        "one limit",
        of("unit/service/test_rates.py", "test_who_has_a_whole_network_is_one"),
    ),
    Attack(51, "a page that the key is not for", "403, no CORS header", ORIGIN),
    Attack(52, "Origin: null", "403", ORIGIN),
    Attack(53, "origins that look alike", "403", ORIGIN),
    Attack(
        54,
        "a preflight of a stranger",
        "nothing is granted",
        of(API, "test_a_preflight_is_granted_to_pages_of_some_public_key_only"),
    ),
    Attack(55, "JSON as text/plain, without a preflight", "415", MEDIA),
    Attack(
        56,
        "slow clients",
        "others do not notice",
        of("integration/test_intake_survival.py", "test_behind_the_shipped_nginx_slow_clients_harm_nobody"),
    ),
    Attack(
        57,
        "a batch too long, or with one bad line",
        "413; 207 with the fate of each",
        of(
            "integration/test_bulk.py",
            "test_what_is_no_import_is_refused_as_a_whole",
            "test_each_line_has_a_fate_of_its_own",
        ),
    ),
    Attack(58, "more than a day's quota", "429", RATES),
)
STORED = (
    *(
        Attack(number, what, "inert text on every page", INERT)
        for number, what in enumerate(
            (
                "<script> in every field",
                "<img onerror>",
                "<svg onload>",
                "a link with javascript:",
                "a way out of an attribute",
                "</script> inside JSON in a page",
                "htmx attributes",
                "{{7*7}} and {% %}",
                "mutation XSS",
            ),
            start=59,
        )
    ),
    Attack(68, "__proto__ and constructor as names", "422, or inert", MEMBERS + KEPT),
    Attack(69, "styles", "inert", INERT),
    Attack(
        70,
        "a picture from elsewhere",
        "nothing is fetched",
        INERT + of(WEB, "test_the_policy_allows_no_inline_code_and_nothing_from_elsewhere"),
    ),
    Attack(
        71,
        "a formula for a spreadsheet",
        "a text",
        of(LISTS, "test_a_formula_in_a_spreadsheet_is_a_text")
        + of(TEXT, "test_no_text_of_an_export_begins_a_formula"),
    ),
    Attack(
        72,
        "escape sequences of terminals",
        "shown as signs",
        of("integration/test_cli.py", "test_no_text_takes_over_a_terminal"),
    ),
    Attack(
        73,
        "line ends in names and texts",
        "no header, one line in the log",
        of(PAGES, "test_whatever_was_written_is_text_on_every_page")
        + of("unit/service/test_logs.py", "test_a_line_end_begins_no_second_entry"),
    ),
    Attack(
        74, "headers of an e-mail", "none", otherwise="Errata sends no e-mail; a project's name is a slug"
    ),
    Attack(
        75,
        "odd names of files",
        "names are ours",
        of(
            "unit/retrain/test_artifacts.py",
            "test_a_manifest_that_leaves_its_directory_is_refused",
            "test_a_name_without_object_is_missing",
        )
        + of(LISTS, "test_an_export_is_a_file_of_all_rows_that_fit"),
    ),
    Attack(
        76,
        "all this from annotators and models",
        "inert text",
        INERT + of("integration/test_connectors.py", "test_nonsense_has_a_problem_and_stops_nothing"),
    ),
)
ACCESS = (
    Attack(
        77,
        "every route by every role",
        "who is declared comes in, nobody else; who declares nothing does not start",
        of(
            WEB,
            "test_each_route_lets_in_exactly_those_it_declares",
            "test_a_route_that_does_not_say_who_may_call_it_fails_the_build",
        )
        + of(CONSOLE, "test_each_page_lets_in_exactly_those_it_is_for"),
    ),
    Attack(
        78,
        "rows of another project by id, list, filter and export",
        "404, or empty",
        of(CONSOLE, "test_a_row_of_another_project_is_none_of_this")
        + of(PEOPLE, "test_a_role_in_one_project_opens_nothing_in_another")
        + of(LISTS, "test_an_export_holds_no_row_of_another_project")
        + of(BAD, "test_a_key_of_one_project_sees_nothing_of_another"),
    ),
    Attack(
        79, "a role in one's own form", "422", of(CONSOLE, "test_a_field_that_is_not_the_form_s_is_refused")
    ),
    Attack(
        80,
        "to judge one's own work",
        "403",
        of("integration/test_quality.py", "test_none_of_those_who_answered_decides")
        + of(DECIDING, "test_who_asked_for_the_training_does_not_approve_it_alone"),
    ),
    Attack(
        81,
        "to promote what was not judged, refused or is stale",
        "409",
        of(
            "integration/test_promotion.py",
            "test_nothing_is_promoted_without_an_approval",
            "test_what_the_gate_did_not_pass_cannot_be_approved",
            "test_an_approval_of_something_else_is_stale",
        ),
    ),
    Attack(
        82,
        "a form of another site, or without its token",
        "403",
        of(
            PEOPLE,
            "test_another_site_s_form_does_nothing_even_with_the_right_token",
            "test_a_form_without_its_token_does_nothing_and_is_shown_again",
            "test_another_person_s_token_is_wrong",
        ),
    ),
    Attack(
        83,
        "a crawler over every GET",
        "nothing changes",
        of(PAGES, "test_no_page_that_is_only_looked_at_changes_anything")
        + of(PEOPLE, "test_looking_at_a_link_does_not_use_it_up"),
    ),
    Attack(
        84,
        "guessing passwords and names",
        "a wait after ten; known and unknown names alike",
        of(
            PEOPLE,
            "test_after_ten_failures_even_the_right_password_waits",
            "test_a_wrong_password_and_an_unknown_name_are_told_the_same",
            "test_an_unknown_name_takes_as_long_as_a_known_one",
        ),
    ),
    Attack(
        85,
        "a session that was planted, or outlived its end",
        "401",
        of(
            PEOPLE,
            "test_an_unknown_cookie_is_nobody_s",
            "test_another_password_signs_other_browsers_out",
            "test_signing_out_forgets_the_browser_on_both_sides",
        ),
    ),
    Attack(
        86,
        "cookies that others read",
        "HttpOnly, SameSite, Secure, __Host-",
        of(
            PEOPLE, "test_the_cookie_is_for_this_host_s_pages_alone", "test_behind_tls_the_cookie_stays_there"
        ),
    ),
    Attack(87, "a way out by ?next=", "stays here", of(PEOPLE, "test_a_link_to_another_site_leads_home")),
    Attack(
        88,
        "a frame around a page",
        "refused",
        of(
            WEB,
            "test_the_policy_allows_no_inline_code_and_nothing_from_elsewhere",
            "test_every_answer_carries_the_security_headers",
        ),
    ),
    Attack(
        89,
        "passwords that are guessed easily, or odd",
        "refused with the rule",
        of(PEOPLE, "test_a_password_that_is_easy_to_guess_is_refused_with_rule_and_reason"),
    ),
    Attack(
        90,
        "setting up a second time",
        "a link works once",
        of(PEOPLE, "test_a_link_works_once", "test_of_two_who_use_a_link_at_once_one_comes_in"),
    ),
    Attack(
        91,
        "another Host",
        "links and lines to copy name the address that is set",
        of(PAGES, "test_no_link_or_line_to_copy_leads_where_a_request_says_it_came_from"),
    ),
    Attack(
        92,
        "OpenID Connect: state, code, audience, issuer, alg",
        "401",
        otherwise="there is no single sign-on yet",
    ),
    Attack(
        93,
        "SQL and wildcards in sorts, filters, searches",
        "422, or only themselves",
        of(LISTS, "test_what_a_list_does_not_know_is_refused", "test_a_wildcard_is_only_itself")
        + of(BAD, "test_no_project_is_found_by_a_strange_name"),
    ),
    Attack(
        94,
        "a search that takes for ever",
        "a list never scans",
        of("integration/test_console_bounds.py", "test_a_page_costs_the_same_with_eight_times_the_rows")
        + of(LISTS, "test_it_says_how_far_it_looked_and_goes_on"),
    ),
    Attack(
        95,
        "pages and limits of 10^9, negative",
        "422",
        of(BAD, "test_a_wrong_query_is_refused") + of(LISTS, "test_what_a_list_does_not_know_is_refused"),
    ),
)
WEBHOOKS = (
    Attack(
        96,
        "no or a wrong secret",
        "401, compared in constant time",
        of(HOOKS, "test_a_wrong_secret_is_refused_and_leaves_nothing")
        + of(SIGNED, "test_only_the_registered_secret_is_authentic"),
    ),
    Attack(
        97,
        "broken signatures and headers",
        "401",
        of(
            SIGNED, "test_a_malformed_header_is_no_signature", "test_a_signature_of_one_of_our_secrets_counts"
        ),
    ),
    Attack(
        98, "six minutes old or early", "401", of(SIGNED, "test_a_signature_of_one_of_our_secrets_counts")
    ),
    Attack(
        99, "the same again", "204, no second effect", of(HOOKS, "test_a_repeated_webhook_is_stored_once")
    ),
    Attack(
        100,
        "an answer that the tool does not confirm",
        "no answer",
        of("integration/test_connectors.py", "test_a_task_that_is_not_there_is_left_out")
        + of(HOOKS, "test_only_ids_and_times_of_a_webhook_are_kept"),
    ),
    Attack(
        101,
        "another project's task",
        "204, ignored",
        of(
            HOOKS,
            "test_another_installations_project_is_ignored",
            "test_a_workspace_that_is_another_tools_project_is_ignored",
        ),
    ),
    Attack(
        102,
        "an unknown annotator, 50 MB, what was not asked",
        "kept with its problem, or 413; settles nothing",
        of(TOOLS, "test_an_account_that_is_none_of_our_experts_settles_nothing")
        + of(HOOKS, "test_an_endless_webhook_is_refused")
        + of(
            "integration/test_questions.py",
            "test_what_is_no_answer_is_kept_with_its_problem_shown_and_settles_nothing",
        ),
    ),
    Attack(
        103,
        "an address that is not allowed",
        "403",
        otherwise="there is no list of addresses: the secret in path and header opens the door",
    ),
)
OUTGOING = (
    Attack(
        104,
        "loopback, private and metadata addresses in every spelling",
        "refused when saved and when sent to",
        of(
            OUT,
            "test_a_name_that_leads_to_an_address_of_ours_is_not",
            "test_an_address_of_ours_is_refused_before_anything_is_sent",
            "test_loopback_in_another_spelling_is_loopback",
        )
        + of(
            NOTICES,
            "test_a_target_that_cannot_be_is_refused",
            "test_an_address_of_ours_is_refused_when_it_is_sent_to_as_well",
        ),
    ),
    Attack(
        105,
        "a name that leads elsewhere a moment later",
        "the checked address is connected to",
        of(OUT, "test_a_name_that_leads_elsewhere_a_moment_later_does_not_help"),
    ),
    Attack(
        106, "a redirect to a private address", "not followed", of(NOTICES, "test_a_redirect_is_not_followed")
    ),
    Attack(107, "file:, gopher:, userinfo, line ends", "422", REFUSED_OUT),
    Attack(
        108,
        "answers without end",
        "cut off",
        of(
            OUT,
            "test_a_body_without_an_end_is_not_read",
            "test_an_answer_that_drips_ends_by_the_deadline_though_no_single_read_is_late",
        ),
    ),
    Attack(
        109,
        "a secret in an address",
        "in no log",
        of("unit/service/test_logs.py", "test_no_secret_is_written_whatever_holds_it")
        + of(NOTICES, "test_only_operators_read_the_whole_address_of_a_target"),
    ),
)
FILES = (
    Attack(
        110,
        "a function or a pickle in Redis",
        "not run",
        of(
            "integration/test_queue.py",
            "test_a_foreign_function_or_callback_runs_only_without_the_allow_list",
        ),
    ),
    Attack(
        111,
        "paths and shells in a job's arguments",
        "refused; no shell anywhere",
        of(MODELS, "test_a_name_that_no_hub_allows_is_unknown")
        + of("integration/test_bases.py", "test_an_unknown_base_is_refused_before_any_is_asked")
        + of("unit/deploy/test_forbidden.py", "test_the_product_breaks_none"),
    ),
    Attack(
        112,
        "pickled weights, under any name",
        "refused",
        DAMAGED_ADAPTER
        + of(
            MODELS, "test_pickled_weights_are_refused", "test_a_hub_model_is_fetched_without_pickles_or_code"
        ),
    ),
    Attack(
        113,
        "a huge header, overlaps, names twice, NaN, another base",
        "refused",
        DAMAGED_ADAPTER
        + of(ADAPTERS, "test_an_adapter_of_another_base_is_refused")
        + of(MODELS, "test_damaged_weights_are_refused"),
    ),
    Attack(
        114,
        "another base, a class to import, another chat template",
        "refused, or another model",
        DAMAGED_ADAPTER
        + of(
            MODELS,
            "test_the_hash_covers_the_chat_template",
            "test_a_model_that_wants_its_own_code_run_is_refused",
            "test_the_tokenizer_of_another_model_is_refused",
        ),
    ),
    Attack(
        115,
        "an archive with ../, links, bombs",
        "nothing is unpacked by its own names",
        of("integration/test_backups.py", "test_a_damaged_backup_is_refused_and_leaves_nothing")
        + of("unit/retrain/test_artifacts.py", "test_a_directory_with_a_link_is_not_stored"),
    ),
    Attack(
        116,
        "a line of 10 MB, broken lines, mixed encodings",
        "each is named",
        of(
            "unit/retrain/test_corpus.py",
            "test_bad_json_lines_lose_nothing_else",
            "test_one_line_in_another_encoding_spoils_no_other",
            "test_however_broken_a_file_is_its_good_lines_are_read",
        )
        + of("integration/test_stages.py", "test_every_broken_line_of_a_file_is_named_and_nothing_is_taken"),
    ),
)
POISON = (
    Attack(
        117,
        "sybils, waves, triggers, hidden marks, inserted links, flipped labels, contamination",
        "one case; nothing is learned without experts; the control is learned",
        of(
            WAVES,
            "test_a_wave_is_one_case_and_experts_are_asked_about_none_of_it",
            "test_without_the_check_the_wave_reaches_experts",
            "test_a_wave_does_not_hide",
        )
        + of(
            "scenarios/test_through_the_service.py",
            "test_coordinated_false_flags_teach_nothing",
            "test_what_experts_say_is_wrong_does_teach",
            "test_flags_that_paraphrase_test_cases_are_never_trained_on",
        )
        + of("unit/retrain/test_audit_groups.py", "test_a_trigger_blocks_and_a_repeated_contact_warns")
        + of("unit/retrain/test_caps.py", "test_one_person_has_at_most_their_share_of_the_training_rows")
        + of("scenarios/test_annotators.py", "test_the_adversary_is_named_and_counts_for_nothing")
        + of("integration/test_quarantine.py", "test_it_says_which_sets_and_models_hold_rows_of_it"),
    ),
    Attack(
        118,
        "people's data, and forgetting a person",
        "masked before it is stored; no word is left",
        of(
            "integration/test_masking.py",
            "test_what_names_a_person_gets_its_placeholder",
            "test_what_names_nobody_stays",
            "test_no_word_of_it_reaches_the_database_and_it_is_counted",
        )
        + of(
            "integration/test_erasure.py",
            "test_after_an_erasure_no_word_is_left_anywhere",
            "test_each_step_of_an_erasure_is_needed",
        ),
    ),
)
ATTACKS = (*FORM, *IDENTITY, *STORED, *ACCESS, *WEBHOOKS, *OUTGOING, *FILES, *POISON)
