"""Attacks by webhooks, addresses, files, models and many accounts."""

from tests.attacks.attack import (
    ADAPTERS,
    DAMAGED_ADAPTER,
    HOOKS,
    MODELS,
    NOTICES,
    OUT,
    REFUSED_OUT,
    SIGNED,
    TOOLS,
    WAVES,
    Attack,
)
from tests.shown import of

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
