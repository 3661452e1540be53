"""Attacks on people before a page: what was written, who is who, and who may do what."""

from tests.attacks.attack import (
    BAD,
    CONSOLE,
    DECIDING,
    INERT,
    KEPT,
    LISTS,
    MEMBERS,
    PAGES,
    PEOPLE,
    TEXT,
    WEB,
    Attack,
)
from tests.shown import of

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
